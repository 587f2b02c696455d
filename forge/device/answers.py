"""Asking the Triton of the active slot, as the gateway sees it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from forge.device.live import Serving
from forge.errors import StepFailedError, UsageError
from forge.serving.client import Ask, InputFormat, Timeouts
from forge.serving.events import Event

if TYPE_CHECKING:
    from forge.serving.connections import Connections

__all__ = ["FORMAT_INPUT", "Answers", "Question", "Triton"]

FORMAT_INPUT: Final = "input_format"
_METADATA_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """What an application wants to know.

    Attributes:
        text: one user's message, a JSON list of messages, or plain text, as `input_format` says.
        max_tokens: None for the bundle's default.
        temperature: 0 takes the likeliest token.
        input_format: what `text` is.
    """

    text: str
    max_tokens: int | None = None
    temperature: float = 0.0
    input_format: InputFormat = "user"


class Answers(Protocol):
    """Asks what serves."""

    def __call__(self, serving: Serving, question: Question, /) -> AsyncGenerator[Sequence[Event]]:
        """A question with max_tokens → tokens as they come together, then one Finished."""

    async def close(self) -> None:
        """Nothing will be asked any more."""


class Triton:
    """Answers over one pool of connections; used from one event loop only.

    Args:
        limit_s: how long an answer may take; the first token may take all of it.
    """

    def __init__(self, limit_s: float = 300.0) -> None:
        self._timeouts = Timeouts(first=limit_s, total=limit_s)
        self._connections: Connections | None = None
        self._asked_of: tuple[str, str] = "", ""
        self._inputs: frozenset[str] = frozenset()

    def __call__(self, serving: Serving, question: Question) -> AsyncGenerator[Sequence[Event]]:
        """Ask. Closing the generator cancels the request down to the model.

        Raises:
            UsageError: the model refused the request, for example a prompt that is too long.
            StepFailedError: Triton is gone, too slow, or broke off.
        """
        from forge.serving.client import astream

        ask = Ask(
            serving.url,
            serving.model,
            question.text,
            question.max_tokens or serving.default_max_tokens,
            question.temperature,
            self._timeouts,
            question.input_format,
        )
        events = astream(ask, self._pool())
        return events if question.input_format == "user" else self._checked(ask, serving, events)

    async def close(self) -> None:
        """Hang up; in the event loop's thread."""
        if self._connections:
            self._connections.close()

    async def _checked(
        self, ask: Ask, serving: Serving, events: AsyncGenerator[Sequence[Event]]
    ) -> AsyncGenerator[Sequence[Event]]:
        async with aclosing(events):
            await self._require_format(serving, ask.input_format)
            async for batch in events:
                yield batch

    async def _require_format(self, serving: Serving, wanted: InputFormat) -> None:
        place = serving.url, serving.release.manifest
        if self._asked_of != place:
            self._inputs = await self._read_inputs(serving)
            self._asked_of = place
        if FORMAT_INPUT not in self._inputs:
            raise UsageError(
                f"The model of {serving.release} takes a single user's message only",
                why=f"it has no input {FORMAT_INPUT!r}, which {wanted!r} needs",
                hint="send one message of the user to /v1/chat/completions",
            )

    async def _read_inputs(self, serving: Serving) -> frozenset[str]:
        from forge.serving.connections import Patience

        patience, url = Patience(*[_METADATA_S] * 3), f"{serving.url}/v2/models/{serving.model}"
        try:
            with closing(await self._pool().ask("GET", url, b"", patience)) as response:
                data = b"".join([piece async for piece in response])
            return frozenset(str(one["name"]) for one in json.loads(data)["inputs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"Triton does not say what model {serving.model!r} takes"
            why = str(error) or type(error).__name__
            raise StepFailedError(message, why=why, hint="see Triton's log") from None

    def _pool(self) -> Connections:
        from forge.serving.connections import Connections

        if self._connections is None:
            self._connections = Connections()
        return self._connections
