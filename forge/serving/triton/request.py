"""One request to a model under Triton, and how long a client waits for its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from forge.serving.sampling import Sampling

__all__ = ["FORMAT_INPUT", "GenerateRequest", "HttpTimeouts", "InputFormat"]

FORMAT_INPUT: Final = "input_format"
# What text_input is: templates/shared/{turns,embedding_batches}.py have the list
InputFormat: TypeAlias = Literal[
    "user",
    "messages",
    "raw",
    "ids",
    "tokens",
    "score",
    "tokenize",
    "detokenize",
    "describe",
    "embed",
    "cancel",
]


_GREEDY: Final = Sampling()


@dataclass(frozen=True, slots=True)
class HttpTimeouts:
    """Seconds a client waits: for the connection, between two events, for the whole answer.

    The first event may take longer than a gap: the prompt is read and others may be ahead.
    """

    connect: float = 5.0
    first: float = 120.0
    gap: float = 60.0
    total: float = 600.0


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What a model is asked.

    Attributes:
        text: one user's message, a JSON list of messages or tokens, or plain text, as
            `input_format` says.
        max_tokens: None for the model's default.
        sampling: how tokens are chosen.
        input_format: what `text` is.
        request_id: with which the request can be cancelled; a model that has no such input
            ignores it.
    """

    text: str
    max_tokens: int | None = None
    sampling: Sampling = _GREEDY
    input_format: InputFormat = "user"
    request_id: str = ""

    @property
    def optional_inputs(self) -> frozenset[str]:
        """Return the inputs that not every model has and that this request needs.

        Triton takes a value without an input of that name for a parameter and ignores it.
        """
        formatted = () if self.input_format == "user" else (FORMAT_INPUT,)
        return frozenset((*self.sampling.body(), *formatted))

    def body(self) -> dict[str, str | int | float]:
        """Return the request's JSON for generate_stream."""
        body: dict[str, str | int | float] = {"text_input": self.text, **self.sampling.body()}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.input_format != "user":
            body[FORMAT_INPUT] = self.input_format
        if self.request_id:
            body["request_id"] = self.request_id
        return body
