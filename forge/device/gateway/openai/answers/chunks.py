"""Streams of chunks: `data:` lines, then `data: [DONE]`; a chunk {"error"} ends one that failed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic_core import to_json
from starlette.types import ASGIApp

from forge.canonical import Json
from forge.device.gateway.errors import openai_body
from forge.device.gateway.generation import GenerationService
from forge.device.gateway.openai.answers.choices import (
    Asked,
    Choice,
    GenerationGroup,
    logprobs_of,
    usage_of,
)
from forge.device.gateway.openai.protocol import OpenAIRequest
from forge.device.gateway.sse import EventStream
from forge.device.shared.upstream import ActiveServer
from forge.device.telemetry.metrics import Metrics
from forge.errors import ForgeError
from forge.serving.triton.stream import StreamEvent, TokenLogprob

__all__ = ["ChunkEncoder", "ChunkShape", "data_line", "head_of", "stream"]

_DONE: Final = b"data: [DONE]\n\n"


class ChunkShape(Protocol):
    """What the chunks of one kind of answer contain."""

    id_prefix: str
    object: str

    def opening(self, index: int, /) -> dict[str, Json] | None:
        """Return the content of a choice's first chunk; None if it has none."""

    def text(self, text: str, /) -> dict[str, Json]:
        """Return the content of a chunk with this text, "" in the last one."""

    def parts(self, index: int, text: str, /, *, last: bool) -> list[dict[str, Json]] | None:
        """Return the contents of a choice's next chunks; None: one with the text as it is."""

    def finish_reason(self, index: int, reason: str, /) -> str:
        """Return the reason in a choice's last chunk."""

    def logprobs(self, index: int, tokens: Sequence[TokenLogprob], /) -> Json:
        """Return the logarithms of a choice's next tokens."""


class ChunkEncoder:
    """Encodes an answer's stream of chunks; see StreamEncoder.

    Args:
        metrics: counts streams that failed.
        request: what was asked.
        asked: what the model is asked, one for each choice.
        serving: the server that answers.
        shape: the content of the chunks.
        group: says of which choice events are; None if there is one choice.
    """

    def __init__(
        self,
        metrics: Metrics,
        request: OpenAIRequest,
        asked: Sequence[Asked],
        serving: ActiveServer,
        shape: ChunkShape,
        group: GenerationGroup | None = None,
    ) -> None:
        self._metrics = metrics
        self._request = request
        self._shape = shape
        self._group = group
        self._choices = [Choice(one.stops) for one in asked]
        self._open = len(asked)
        self._logprobs = request.wants_logprobs
        self._head = head_of(serving, shape.id_prefix, shape.object)
        self._frames = [self._frame(index) for index in range(len(asked))]

    @property
    def finished(self) -> bool:
        """Whether all choices are complete."""
        return not self._open

    def start(self) -> bytes:
        """Return the first chunks of all choices."""
        openings = [(index, self._shape.opening(index)) for index in range(len(self._choices))]
        return b"".join(self._chunk(index, content) for index, content in openings if content)

    def feed(self, batch: Sequence[StreamEvent]) -> bytes:
        """Return the chunks of these events."""
        index = self._group.index if self._group else 0
        choice = self._choices[index]
        if choice.finish_reason:
            return b""
        text = choice.feed(batch)
        last = bool(choice.finish_reason)
        parts = self._shape.parts(index, text, last=last)
        if self._logprobs:
            data = self._with_logprobs(index, parts, text, batch)
        elif parts is not None:
            data = b"".join(self._chunk(index, one) for one in parts)
        else:
            data = self._frames[index].chunk(text) if text else b""
        if last:
            self._open -= 1
            reason = self._shape.finish_reason(index, choice.finish_reason)
            data += self._chunk(index, self._shape.text(""), reason)
        return data

    def end(self) -> bytes:
        """Return the usage, if it is wanted, and the end of the stream."""
        if not self._request.wants_usage:
            return _DONE
        usage = usage_of(self._choices, self._request.n)
        return data_line({**self._head, "choices": [], "usage": usage}) + _DONE

    def error(self, error: ForgeError) -> bytes:
        """Return the chunk of an error, which OpenAI's clients raise."""
        self._metrics.add("forge_device_stream_errors_total")
        return data_line({**openai_body(error)})

    def _with_logprobs(
        self,
        index: int,
        parts: list[dict[str, Json]] | None,
        text: str,
        batch: Sequence[StreamEvent],
    ) -> bytes:
        tokens = logprobs_of(batch)
        if parts is None:
            parts = [self._shape.text(text)] if text else []
        if not parts and not tokens:
            return b""
        first, *others = parts or [self._shape.text("")]
        logprobs = self._shape.logprobs(index, tokens)
        data = self._chunk(index, {**first, "logprobs": logprobs})
        return data + b"".join(self._chunk(index, one) for one in others)

    def _chunk(self, index: int, content: dict[str, Json], reason: str | None = None) -> bytes:
        choice = {"index": index, "logprobs": None, **content, "finish_reason": reason}
        return data_line({**self._head, "choices": [choice]})

    def _frame(self, index: int) -> _Frame:
        mark = uuid.uuid4().hex
        chunk = self._chunk(index, self._shape.text(mark))
        before, _, after = chunk.partition(f'"{mark}"'.encode())
        return _Frame(before, after)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The bytes before and after the text in every chunk of a choice, encoded once."""

    before: bytes
    after: bytes

    def chunk(self, text: str) -> bytes:
        return self.before + to_json(text) + self.after


async def stream(
    service: GenerationService, request: OpenAIRequest, asked: Sequence[Asked], shape: ChunkShape
) -> ASGIApp:
    """Return the response. Raises as GenerationService.start."""
    if len(asked) == 1:
        generation = await service.start(asked[0].request)
        encoder = ChunkEncoder(service.metrics, request, asked, generation.serving, shape)
        return EventStream(generation, encoder)
    group = await GenerationGroup.start(service, asked)
    encoder = ChunkEncoder(service.metrics, request, asked, group.serving, shape, group)
    return EventStream(group, encoder)


def head_of(serving: ActiveServer, id_prefix: str, kind: str) -> dict[str, Json]:
    """Return what an answer and all its chunks begin with."""
    release = serving.release
    return {
        "id": f"{id_prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": release.name,
        "system_fingerprint": f"{release.name} {release.version}",
    }


def data_line(document: dict[str, Json]) -> bytes:
    """Return one event of a stream."""
    return b"data: %b\n\n" % to_json(document)
