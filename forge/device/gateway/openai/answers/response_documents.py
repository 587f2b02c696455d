"""The document of a response to /v1/responses."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from forge.canonical import Json
from forge.device.gateway.openai.answers.choices import Choice
from forge.device.gateway.openai.answers.response_items import CallItem, MessageItem, OutputItem
from forge.device.gateway.openai.tool_calls import CallParser, ContentDelta
from forge.device.shared.upstream import ActiveServer
from forge.serving.triton.stream import TokenLogprob

__all__ = ["ResponseWriter", "items_of", "status_of"]


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
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, choice: Choice, items: Sequence[OutputItem]) -> dict[str, Json]:
        """Return the document of a complete answer."""
        status = status_of(choice)
        cut = status == "incomplete"
        return self.document(
            status,
            output=[
                *(one.document("completed") for one in items[:-1]),
                *(one.document(status) for one in items[-1:]),  # only the last one can be cut
            ],
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

    def message(self, index: int) -> MessageItem:
        """Return a message without text."""
        return MessageItem(index, logprobs=[] if self.logprobs else None)


def status_of(choice: Choice) -> str:
    """Return how a response with this answer ended."""
    return "incomplete" if choice.finish_reason == "length" else "completed"


def items_of(
    writer: ResponseWriter, text: str, logprobs: Sequence[TokenLogprob], parser: CallParser | None
) -> list[OutputItem]:
    """Return the items of a whole answer, in the order in which a stream has them."""
    deltas = [*parser.feed(text), *parser.finish()] if parser else [ContentDelta(text)]
    items: list[OutputItem] = []
    for delta in deltas or [ContentDelta("")]:
        last = items[-1] if items else None
        if isinstance(delta, ContentDelta):
            message = last if isinstance(last, MessageItem) else writer.message(len(items))
            message.texts.append(delta.text)
            if message is not last:
                items.append(message)
        elif delta.id is not None:
            items.append(CallItem(len(items), delta.id, delta.name or "", [delta.arguments]))
        elif isinstance(last, CallItem):
            last.parts.append(delta.arguments)
    first = next((one for one in items if isinstance(one, MessageItem)), None)
    if first and first.logprobs is not None:
        first.logprobs += logprobs
    return items


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
