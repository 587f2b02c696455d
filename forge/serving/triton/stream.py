"""Parse Triton's `generate_stream`: bytes of Server-Sent Events → tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pydantic_core import from_json

from forge.errors import ForgeError, StepFailedError, UsageError

__all__ = [
    "REFUSED",
    "Finished",
    "Parser",
    "StreamEvent",
    "Token",
    "TokenLogprob",
    "refusal",
    "token_logprobs",
]

_MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
# Triton 2.51 gives every error before the first token the status 400 and drops the code that the
# model gave it: so the message says whether the request is at fault (templates/shared/turns.py).
REFUSED: Final = "Refused: "


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was chosen or could have been.

    Attributes:
        token: its text alone; half a character is U+FFFD there.
        logprob: the natural logarithm of its probability.
        raw: its bytes.
        top: the likeliest tokens in its place, likeliest first.
    """

    token: str
    logprob: float
    raw: bytes = b""
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer: the text of one or more tokens.

    Attributes:
        text: may be empty where only logarithms came.
        logprobs: of its tokens, if the request wants them.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer; counts are of tokens, `output_tokens` with the end-of-text token."""

    finish_reason: str
    input_tokens: int
    output_tokens: int


StreamEvent: TypeAlias = Token | Finished


@dataclass(slots=True)
class Parser:
    """Takes bytes as they arrive, in pieces of any size, and returns events."""

    status: int = 200
    is_stream: bool = True  # False: the body is one JSON error, as for an unknown model
    finished: bool = False
    _rest: bytes = field(default=b"")

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """Yield the events that are complete now.

        Raises:
            UsageError: the model refused the request.
            StepFailedError: the model failed, or the bytes are not a valid event.
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
        """Handle the end of the stream. Raises as `feed`, and StepFailedError before Finished."""
        if not self.is_stream:
            raise refusal(self.status, self._rest)
        if not self.finished:
            message = "Triton's answer ended before it was complete"
            hint = "the model or the server was stopped or killed; see Triton's log"
            raise StepFailedError(message, hint=hint)

    def _event(self, block: bytes) -> tuple[StreamEvent, ...]:
        body = _data(block)
        if body is None:
            return ()
        value = _json(body)
        if not isinstance(value, dict) or "error" in value or self.status != 200:  # noqa: PLR2004
            raise refusal(self.status, body)
        text = value.get("text_output", "")
        logprobs = token_logprobs(value["logprobs"]) if "logprobs" in value else ()
        said = (Token(str(text), logprobs),) if text or logprobs else ()
        if "finish_reason" not in value:
            return said
        self.finished = True
        return (*said, _finished(value))


def _data(block: bytes) -> bytes | None:
    """Return the text after `data:`; the event's name and comments do not matter."""
    if block.startswith(b"data:") and b"\n" not in block and b"\r" not in block:  # Triton's
        return block[5:]
    lines = [line[5:].strip() for line in block.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def refusal(status: int, body: bytes) -> ForgeError:
    """Return the error of a failed request: UsageError if the model refused the request."""
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


def token_logprobs(text: Any) -> tuple[TokenLogprob, ...]:
    """Parse the output `logprobs`: a JSON list of {"token", "logprob", "bytes", "top"?}."""
    try:
        return tuple(map(_logprob, from_json(text)))
    except (KeyError, TypeError, ValueError) as error:
        raise StepFailedError("Triton's logprobs are not valid", why=repr(error)) from None


def _logprob(one: dict[str, Any]) -> TokenLogprob:
    top = tuple(map(_logprob, one.get("top", ())))
    return TokenLogprob(str(one["token"]), float(one["logprob"]), bytes(one["bytes"]), top)


def _json(body: bytes) -> Any:
    try:
        return from_json(body)  # runs for each token; json takes ten times as long
    except ValueError:
        return None
