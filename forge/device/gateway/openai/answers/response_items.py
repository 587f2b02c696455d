"""The items of a response's output: messages and calls of functions, with OpenAI's names. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from forge.canonical import Json
from forge.device.gateway.openai.answers.logprobs import content_logprobs
from forge.serving.triton.stream import TokenLogprob

__all__ = ["CallItem", "MessageItem", "OutputItem"]


@dataclass(slots=True)
class MessageItem:
    """A message as far as it has come.

    Attributes:
        index: of the item in the output.
        texts: its pieces.
        logprobs: of its tokens; None where they are not wanted.
    """

    index: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")

    @property
    def place(self) -> dict[str, Json]:
        """Return what the events of its part of text have."""
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    def document(self, status: str, *, empty: bool = False) -> dict[str, Json]:
        """Return the item; `empty` as it begins."""
        content: list[Json] = [] if empty else [self.part()]
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def part(self, *, empty: bool = False) -> dict[str, Json]:
        """Return its part of text; `empty` as it begins."""
        text = "" if empty else "".join(self.texts)
        tokens = () if empty or self.logprobs is None else self.logprobs
        return {
            "type": "output_text",
            "text": text,
            "annotations": [],
            "logprobs": self.scored(tokens),
        }

    def scored(self, tokens: Sequence[TokenLogprob]) -> list[Json]:
        """Return the logarithms of tokens; none where they are not wanted."""
        return [] if self.logprobs is None else content_logprobs(tokens)


@dataclass(slots=True)
class CallItem:
    """A call of a function as far as it has come.

    Attributes:
        index: of the item in the output.
        call_id: with which its result comes back.
        name: of the function.
        parts: of its arguments, which are JSON together.
    """

    index: int
    call_id: str
    name: str
    parts: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"fc_{uuid.uuid4().hex}")

    @property
    def place(self) -> dict[str, Json]:
        """Return what the events of its arguments have."""
        return {"item_id": self.id, "output_index": self.index}

    @property
    def arguments(self) -> str:
        """Return its arguments so far."""
        return "".join(self.parts)

    def document(self, status: str, *, empty: bool = False) -> dict[str, Json]:
        """Return the item; `empty` as it begins."""
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": "" if empty else self.arguments,
        }


OutputItem: TypeAlias = MessageItem | CallItem
