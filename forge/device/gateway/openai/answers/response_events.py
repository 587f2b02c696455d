"""The events of a response's stream, with OpenAI's names."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic_core import to_json

from forge.canonical import Json
from forge.device.gateway.errors import openai_body
from forge.device.gateway.openai.answers.choices import Asked, Choice, logprobs_of
from forge.device.gateway.openai.answers.response_documents import ResponseWriter, status_of
from forge.device.gateway.openai.answers.response_items import CallItem, MessageItem, OutputItem
from forge.device.gateway.openai.tool_calls import CallParser, ContentDelta, ToolCallDelta
from forge.device.telemetry.metrics import Metrics
from forge.errors import ForgeError
from forge.serving.triton.stream import StreamEvent, TokenLogprob

__all__ = ["ResponseEncoder"]

_DELTA: Final = "response.output_text.delta"
_ARGUMENTS: Final = "response.function_call_arguments"


class ResponseEncoder:
    """Encodes the stream of one response; see StreamEncoder.

    Args:
        metrics: counts streams that failed.
        writer: writes the response's documents.
        asked: what the model is asked.
        parser: finds calls in its answer; None: no tools are offered.
    """

    def __init__(
        self,
        metrics: Metrics,
        writer: ResponseWriter,
        asked: Asked,
        parser: CallParser | None = None,
    ) -> None:
        self._metrics = metrics
        self._writer = writer
        self._choice = Choice(asked.stops)
        self._parser = parser
        self._items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._frame: list[bytes] = []  # around text and number in the events of the open message
        self._number = 0

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return bool(self._choice.finish_reason)

    def start(self) -> bytes:
        """Return the events before the first text."""
        begun = {"response": self._writer.document("in_progress")}
        data = self._say("response.created", begun) + self._say("response.in_progress", begun)
        return data if self._parser else data + self._begin_message()

    def feed(self, batch: Sequence[StreamEvent]) -> bytes:
        """Return the events of a piece of text."""
        text = self._choice.feed(batch)
        tokens = logprobs_of(batch) if self._writer.logprobs else []
        if self._parser is None:
            return self._text(text, tokens) if text or tokens else b""
        deltas = self._parser.feed(text)
        deltas += self._parser.finish() if self.finished else []
        data = b""
        for delta in deltas:
            if isinstance(delta, ToolCallDelta):
                data += self._call(delta)
            else:
                data += self._content(delta, tokens)
                tokens = []
        return data

    def end(self) -> bytes:
        """Return the events after the last text."""
        data = b"" if self._items else self._begin_message()
        response = self._writer.complete(self._choice, self._items)
        data += self._close()
        return data + self._say(f"response.{response['status']}", {"response": response})

    def error(self, error: ForgeError) -> bytes:
        """Return the event of a response that failed."""
        self._metrics.add("forge_device_stream_errors_total")
        message = openai_body(error)["error"]["message"]
        failed = self._writer.document("failed", error={"code": "server_error", "message": message})
        return self._say("response.failed", {"response": failed})

    def _content(self, delta: ContentDelta, tokens: Sequence[TokenLogprob]) -> bytes:
        begun = b""
        if not isinstance(self._open, MessageItem):
            begun = self._close() + self._begin_message()
        return begun + self._text(delta.text, tokens)

    def _text(self, text: str, tokens: Sequence[TokenLogprob]) -> bytes:
        message = self._open
        if not isinstance(message, MessageItem):
            raise TypeError("text belongs to a message")
        message.texts.append(text)
        if message.logprobs is not None:
            message.logprobs += tokens
            scored = message.scored(tokens)
            return self._say(_DELTA, {**message.place, "delta": text, "logprobs": scored})
        before, between, after = self._frame
        return before + to_json(text) + between + b"%d" % self._next() + after

    def _call(self, delta: ToolCallDelta) -> bytes:
        data = b""
        if delta.id is not None:
            data = self._close() + self._begin_call(delta.id, delta.name or "")
        call = self._open
        if not isinstance(call, CallItem):
            raise TypeError("arguments belong to a call")
        if not delta.arguments:
            return data
        call.parts.append(delta.arguments)
        return data + self._say(f"{_ARGUMENTS}.delta", {**call.place, "delta": delta.arguments})

    def _begin_message(self) -> bytes:
        message = self._writer.message(len(self._items))
        mark = uuid.uuid4().hex
        plain = {**message.place, "logprobs": [], "delta": mark, "sequence_number": mark}
        self._frame = _event(_DELTA, plain).split(f'"{mark}"'.encode())
        part = {**message.place, "part": message.part(empty=True)}
        return self._begin(message) + self._say("response.content_part.added", part)

    def _begin_call(self, call_id: str, name: str) -> bytes:
        return self._begin(CallItem(len(self._items), call_id, name))

    def _begin(self, item: OutputItem) -> bytes:
        self._items.append(item)
        self._open = item
        added = item.document("in_progress", empty=True)
        return self._say("response.output_item.added", {"output_index": item.index, "item": added})

    def _close(self) -> bytes:
        """Return the events that complete the item under way."""
        item, self._open = self._open, None
        if item is None:
            return b""
        data = self._message_done(item) if isinstance(item, MessageItem) else self._call_done(item)
        # Only the last item can be cut.
        status = status_of(self._choice) if item is self._items[-1] else "completed"
        done: dict[str, Json] = {"output_index": item.index, "item": item.document(status)}
        return data + self._say("response.output_item.done", done)

    def _message_done(self, message: MessageItem) -> bytes:
        part = message.part()
        said = {**message.place, "text": part["text"], "logprobs": part["logprobs"]}
        return self._say("response.output_text.done", said) + self._say(
            "response.content_part.done", {**message.place, "part": part}
        )

    def _call_done(self, call: CallItem) -> bytes:
        done = {**call.place, "name": call.name, "arguments": call.arguments}
        return self._say(f"{_ARGUMENTS}.done", done)

    def _say(self, kind: str, content: Mapping[str, Json]) -> bytes:
        return _event(kind, {**content, "sequence_number": self._next()})

    def _next(self) -> int:
        number, self._number = self._number, self._number + 1
        return number


def _event(kind: str, content: Mapping[str, Json]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json({"type": kind, **content}))
