"""Triton's `generate_stream`: bytes of Server-Sent Events → tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pydantic_core import from_json

from forge.errors import ForgeError, StepFailedError, UsageError

__all__ = ["REFUSED", "Event", "Finished", "Parser", "Token", "refusal"]

_MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
# Triton 2.51 gives every error before the first token the status 400, and drops the code that the
# model gave it: so a model's words say whether the asker is to blame (templates/shared/turns.py).
REFUSED: Final = "Refused: "


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer: the text of one or more tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer; counts are of tokens, `output_tokens` with the end-of-text token."""

    finish_reason: str
    input_tokens: int
    output_tokens: int


Event: TypeAlias = Token | Finished


@dataclass(slots=True)
class Parser:
    """Takes bytes as they arrive, however they are cut, and gives events."""

    status: int = 200
    is_stream: bool = True  # False: the body is one JSON error, as for an unknown model
    finished: bool = False
    _rest: bytes = field(default=b"")

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events that are complete now.

        Raises:
            UsageError: the model refused the request.
            StepFailedError: the model failed, or what came is no event.
        """
        self._rest += data
        if len(self._rest) > _MAX_EVENT_BYTES:
            raise StepFailedError(f"Triton sent an event of more than {_MAX_EVENT_BYTES} bytes")
        if not self.is_stream:
            return
        *blocks, self._rest = self._rest.split(b"\n\n")
        for block in blocks:
            yield from self._event(block)

    def close(self) -> None:
        """The stream has ended. Raises as `feed`, and StepFailedError if the answer has not."""
        if not self.is_stream:
            raise refusal(self.status, self._rest)
        if not self.finished:
            message = "Triton's answer ended before it was complete"
            hint = "the model or the server was stopped or killed; see Triton's log"
            raise StepFailedError(message, hint=hint)

    def _event(self, block: bytes) -> tuple[Event, ...]:
        body = _data(block)
        if body is None:
            return ()
        value = _json(body)
        if not isinstance(value, dict) or "error" in value or self.status != 200:  # noqa: PLR2004
            raise refusal(self.status, body)
        text = value.get("text_output", "")
        said = (Token(str(text)),) if text else ()
        if "finish_reason" not in value:
            return said
        self.finished = True
        return (*said, _finished(value))


def _data(block: bytes) -> bytes | None:
    """What stands after `data:` in an event, whose name and comments do not matter."""
    if block.startswith(b"data:") and b"\n" not in block and b"\r" not in block:  # Triton's
        return block[5:]
    lines = [line[5:].strip() for line in block.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def refusal(status: int, body: bytes) -> ForgeError:
    """The error for an answer that is none; the asker's own if the model says that it refuses."""
    value = _json(body)
    why = str(value["error"]) if isinstance(value, dict) and "error" in value else ""
    why = why or body[:500].decode(errors="replace").strip() or f"HTTP status {status}"
    if why.startswith(REFUSED):
        return UsageError("The model refused the request", why=why.removeprefix(REFUSED))
    return StepFailedError("The model failed", why=why, hint="see Triton's log")


def _finished(value: dict[str, Any]) -> Finished:
    try:
        return Finished(
            finish_reason=str(value["finish_reason"]),
            input_tokens=int(value["input_tokens"]),
            output_tokens=int(value["output_tokens"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StepFailedError("Triton's last event is not complete", why=repr(error)) from None


def _json(body: bytes) -> Any:
    try:
        return from_json(body)  # for each token, so not by json, which takes ten times as long
    except ValueError:
        return None
