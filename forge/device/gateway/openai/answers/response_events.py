"""Answers of /v1/responses: the document, and the events of a stream with OpenAI's names."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import to_json

from forge.canonical import Json
from forge.device.gateway.errors import openai_body
from forge.device.gateway.openai.answers.choices import Asked, Choice, logprobs_of
from forge.device.gateway.openai.answers.logprobs import content_logprobs
from forge.device.shared.upstream import ActiveServer
from forge.device.telemetry.metrics import Metrics
from forge.errors import ForgeError
from forge.serving.triton.stream import StreamEvent, TokenLogprob

__all__ = ["Answered", "ResponseEncoder", "ResponseWriter"]

_DELTA: Final = "response.output_text.delta"


@dataclass(slots=True)
class Answered:
    """What the model has answered so far."""

    text: str
    logprobs: list[TokenLogprob]
    choice: Choice


@dataclass(frozen=True, slots=True)
class ResponseWriter:
    """Writes the documents of one response.

    Attributes:
        given: the request's parameters, which each document repeats.
        serving: the server that answers.
        logprobs: whether the text comes with its tokens' logarithms.
    """

    given: dict[str, Any]
    serving: ActiveServer
    logprobs: bool
    identity: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    message: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, answered: Answered) -> dict[str, Json]:
        """Return the document of a complete answer."""
        choice = answered.choice
        cut = choice.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        return self.document(
            status,
            output=[self.item(status, answered)],
            usage=_usage(choice),
            completed_at=None if cut else int(time.time()),
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
        )

    def document(self, status: str, **more: Json) -> dict[str, Json]:
        """Return the document; `more` are the fields that the status decides."""
        return {
            "id": self.identity,
            "object": "response",
            "created_at": self.created,
            "model": self.serving.release.name,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "truncation": "disabled",
            "usage": None,
            "output": [],
            **self.given,
            **more,
        }

    def item(self, status: str, answered: Answered | None = None) -> dict[str, Json]:
        """Return the message, empty before there is an answer."""
        content: list[Json] = [self.part(answered)] if answered else []
        return {
            "id": self.message,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def part(self, answered: Answered | None = None) -> dict[str, Json]:
        """Return the message's part of text."""
        text = answered.text if answered else ""
        return {
            "type": "output_text",
            "text": text,
            "annotations": [],
            "logprobs": self.scored(answered.logprobs if answered else ()),
        }

    def scored(self, tokens: Sequence[TokenLogprob]) -> list[Json]:
        """Return the logarithms of tokens; none where they are not wanted."""
        return content_logprobs(tokens) if self.logprobs else []


def _usage(choice: Choice) -> dict[str, Json] | None:
    if choice.usage is None:
        return None
    given, made = choice.usage.input_tokens, choice.usage.output_tokens
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }


class ResponseEncoder:
    """Encodes the stream of one response; see StreamEncoder."""

    def __init__(self, metrics: Metrics, writer: ResponseWriter, asked: Asked) -> None:
        self._metrics = metrics
        self._writer = writer
        self._answered = Answered("", [], Choice(asked.stops))
        self._texts: list[str] = []
        self._number = 0
        self._place: dict[str, Json] = {
            "item_id": writer.message,
            "output_index": 0,
            "content_index": 0,
        }
        mark = uuid.uuid4().hex
        plain = _event(
            _DELTA, {**self._place, "logprobs": [], "delta": mark, "sequence_number": mark}
        )
        self._frame = plain.split(f'"{mark}"'.encode())

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return bool(self._answered.choice.finish_reason)

    def start(self) -> bytes:
        """Return the events before the first text."""
        writer = self._writer
        begun = {"response": writer.document("in_progress")}
        return b"".join(
            (
                self._say("response.created", begun),
                self._say("response.in_progress", begun),
                self._say(
                    "response.output_item.added",
                    {"output_index": 0, "item": writer.item("in_progress")},
                ),
                self._say("response.content_part.added", {**self._place, "part": writer.part()}),
            )
        )

    def feed(self, batch: Sequence[StreamEvent]) -> bytes:
        """Return the events of a piece of text."""
        text = self._answered.choice.feed(batch)
        self._texts.append(text)
        if self._writer.logprobs:
            tokens = logprobs_of(batch)
            self._answered.logprobs += tokens
            scored = self._writer.scored(tokens)
            said: dict[str, Json] = {**self._place, "delta": text, "logprobs": scored}
            return self._say(_DELTA, said) if text or tokens else b""
        if not text:
            return b""
        before, between, after = self._frame
        number = b"%d" % self._next()
        return before + to_json(text) + between + number + after

    def end(self) -> bytes:
        """Return the events after the last text."""
        writer, answered = self._writer, self._answered
        answered.text = "".join(self._texts)
        response = writer.complete(answered)
        status = str(response["status"])
        scored = writer.scored(answered.logprobs)
        done: dict[str, Json] = {**self._place, "text": answered.text, "logprobs": scored}
        item: dict[str, Json] = {"output_index": 0, "item": writer.item(status, answered)}
        return b"".join(
            (
                self._say("response.output_text.done", done),
                self._say(
                    "response.content_part.done", {**self._place, "part": writer.part(answered)}
                ),
                self._say("response.output_item.done", item),
                self._say(f"response.{status}", {"response": response}),
            )
        )

    def error(self, error: ForgeError) -> bytes:
        """Return the event of a response that failed."""
        self._metrics.add("forge_device_stream_errors_total")
        message = openai_body(error)["error"]["message"]
        failed = self._writer.document("failed", error={"code": "server_error", "message": message})
        return self._say("response.failed", {"response": failed})

    def _say(self, kind: str, content: Mapping[str, Json]) -> bytes:
        return _event(kind, {**content, "sequence_number": self._next()})

    def _next(self) -> int:
        number, self._number = self._number, self._number + 1
        return number


def _event(kind: str, content: Mapping[str, Json]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json({"type": kind, **content}))
