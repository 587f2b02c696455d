"""Asking the Triton of the active slot, as the gateway sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from forge.device.live import Serving
from forge.errors import StepFailedError, UsageError
from forge.serving.client import Ask, InputFormat
from forge.serving.events import Event

if TYPE_CHECKING:
    import httpx

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


# serving, question with max_tokens → tokens as they come, then one Finished
Answers: TypeAlias = Callable[[Serving, Question], AsyncGenerator[Event]]


class Triton:
    """Answers over one pool of connections; used from one event loop only."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None
        self._asked_of: tuple[str, str] = "", ""
        self._inputs: frozenset[str] = frozenset()

    async def __call__(self, serving: Serving, question: Question) -> AsyncGenerator[Event]:
        """Ask. Closing the generator cancels the request down to the model.

        Raises:
            UsageError: the model refused the request, for example a prompt that is too long.
            StepFailedError: Triton is gone, too slow, or broke off.
        """
        from forge.serving.client import astream

        if question.input_format != "user":
            await self._require_format(serving, question.input_format)
        ask = Ask(
            serving.url,
            serving.model,
            question.text,
            question.max_tokens or serving.default_max_tokens,
            question.temperature,
            input_format=question.input_format,
        )
        async with aclosing(astream(ask, self._pool())) as events:
            async for event in events:
                yield event

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
        import httpx

        url = f"{serving.url}/v2/models/{serving.model}"
        try:
            response = await self._pool().get(url, timeout=_METADATA_S)
            document: dict[str, Any] = response.raise_for_status().json()
            return frozenset(str(one["name"]) for one in document["inputs"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            message = f"Triton does not say what model {serving.model!r} takes"
            why = str(error) or type(error).__name__
            raise StepFailedError(message, why=why, hint="see Triton's log") from None

    def _pool(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            # How many ask at once is the gateway's business, not the pool's.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
            self._client = httpx.AsyncClient(trust_env=False, limits=limits)
        return self._client
