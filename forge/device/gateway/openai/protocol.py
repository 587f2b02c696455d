"""Requests of OpenAI's API for chats and completions, and what they mean here. Pure.

A parameter that would change the answer and is not supported is refused; its neutral value is
accepted, since clients send it by default.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from forge.device.gateway.openai import parameters
from forge.device.gateway.openai.messages import (
    MAX_CHARACTERS,
    ChatTool,
    Listed,
    Message,
    ResponseFormat,
    ToolChoice,
)
from forge.device.gateway.openai.structured import GUIDED, form_of
from forge.device.gateway.openai.tooling import Tooling
from forge.serving.sampling import Sampling, StructuredOutputs
from forge.serving.triton.request import GenerateRequest, InputFormat

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "OpenAIRequest",
    "Prompt",
    "Prompts",
    "StreamOptions",
    "messages_text",
]

_MAX_TOKENS: Final = 32_768
_MAX_MESSAGES: Final = 256
_MAX_CHOICES: Final = 128  # as OpenAI's API
_MAX_TOOLS: Final = 128  # likewise
_MAX_PROMPTS: Final = 256
_MAX_TOKEN_ID: Final = 2**31
_INT64: Final = 2**63
_DRAWN: Final[dict[str, Any]] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "seed": None,
}  # only a draw uses them


class StreamOptions(BaseModel):
    """What a stream contains besides the text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against eavesdroppers; accepted, never sent
    # vLLM's, which guidellm always sets: the model tells its usage at the end only, so it is there.
    continuous_usage_stats: bool | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be continued: text, or token ids as a JSON list."""

    text: str
    input_format: InputFormat = "raw"


class OpenAIRequest(Sampling):
    """What all kinds of requests share; temperature is 0 unless the request sets it."""

    kind: ClassVar[str] = ""
    known: ClassVar[parameters.Known] = {}

    model: str = Field(max_length=256)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    n: int = Field(default=1, ge=1, le=_MAX_CHOICES)
    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    guided_choice: Annotated[tuple[str, ...] | None, Listed] = Field(
        default=None, min_length=1, max_length=1024
    )
    guided_grammar: str | None = Field(default=None, max_length=MAX_CHARACTERS)

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("best_of") == value.get("n", 1):  # as many are drawn as are returned
            value = {name: one for name, one in value.items() if name != "best_of"}
        return parameters.without_neutral(value, cls.known)

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> OpenAIRequest:
        if self.stream_options and not self.stream:
            text = "must not be set unless stream is true"
            raise PydanticCustomError("stream_options", text, {"param": "stream_options"})
        return self

    @model_validator(mode="after")
    def _one_form(self) -> OpenAIRequest:
        """Refuse a request for more than one form."""
        self.form()
        return self

    def form(self) -> StructuredOutputs | None:
        """Return the form that the answer must have."""
        guided = {name: getattr(self, name) for name in GUIDED}
        return form_of(self.response_format, self.structured_outputs, guided)

    @property
    def wants_usage(self) -> bool:
        """Return whether a stream ends with the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_logprobs(self) -> bool:
        """Return whether the answer has the logarithms of the tokens' probabilities."""
        return self.sampling.top_logprobs is not None

    @property
    def sampling(self) -> Sampling:
        """Return how tokens are chosen; what only a draw uses is left out where none is made."""
        changes = dict(_DRAWN) if self.temperature == 0 else {}
        changes |= {"structured_outputs": self.form(), **self._sampling_changes()}
        return Sampling.of(self).model_copy(update=changes)

    def spelled(self, name: str) -> str:
        """Return how the request names a field of Sampling."""
        if name == "top_logprobs":
            return "logprobs"
        if name == "structured_outputs":
            asked = ("response_format", *GUIDED)
            return next((one for one in asked if getattr(self, one) is not None), name)
        return name

    def _sampling_changes(self) -> dict[str, Any]:
        """Return the fields of Sampling that this API names in another way."""
        return {}

    def prompts(self) -> tuple[Prompt, ...]:
        """Return what the model gets: for each, `n` answers."""
        raise NotImplementedError

    @property
    def limit(self) -> int | None:
        """Return how many tokens an answer may have; None for the model's default."""
        return self.max_tokens

    @property
    def limit_name(self) -> str:
        """Return the parameter that says so."""
        return "max_tokens"

    def generate_requests(self) -> tuple[GenerateRequest, ...]:
        """Return one request for each choice, in the order of their indices.

        The seeds of one prompt's choices differ, since equal ones would give equal answers.
        """
        sampling = self.sampling
        return tuple(
            GenerateRequest(prompt.text, self.limit, _seeded(sampling, draw), prompt.input_format)
            for prompt in self.prompts()
            for draw in range(self.n)
        )


class ChatRequest(OpenAIRequest):
    """POST /v1/chat/completions."""

    kind: ClassVar[str] = "chat.completion"
    known: ClassVar[parameters.Known] = parameters.CHAT

    messages: Annotated[tuple[Message, ...], Listed] = Field(min_length=1, max_length=_MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    logprobs: bool | None = None
    tools: Annotated[tuple[ChatTool, ...], Listed] = Field(default=(), max_length=_MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _not_too_long(self) -> ChatRequest:
        if sum(len(message.text) for message in self.messages) > MAX_CHARACTERS:
            text = "must have at most {most} characters together"
            raise PydanticCustomError(
                "too_long_together", text, {"most": MAX_CHARACTERS, "param": "messages"}
            )
        return self

    @model_validator(mode="after")
    def _alternatives_belong_to_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            text = "must not be set unless logprobs is true"
            raise PydanticCustomError("top_logprobs", text, {"param": "top_logprobs"})
        return self

    @property
    def limit(self) -> int | None:
        """Return the newer name's value where both are given."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def limit_name(self) -> str:
        """Return the name that was given."""
        return "max_completion_tokens" if self.max_completion_tokens else "max_tokens"

    def _sampling_changes(self) -> dict[str, Any]:
        return {"top_logprobs": self.top_logprobs or 0 if self.logprobs else None}

    def prompts(self) -> tuple[Prompt, ...]:
        """Return one user message as plain text, which every model takes; more as a list."""
        first, *others = self.messages
        if first.role == "user" and not others and not self.offered:
            return (Prompt(first.text, "user"),)
        return (Prompt(messages_text(self.messages, self.offered), "messages"),)

    def form(self) -> StructuredOutputs | None:
        """Return the form of the answer, of a call where the model must or may make one."""
        return self.tooling.form

    def spelled(self, name: str) -> str:
        """Return `tool_choice` where only a forced call has a form."""
        if name == "structured_outputs" and self.tooling.forced:
            return "tool_choice"
        return super().spelled(name)

    @property
    def offered(self) -> tuple[ChatTool, ...]:
        """Return the tools that the model may call."""
        return self.tooling.tools

    @cached_property
    def tooling(self) -> Tooling:
        """What the tools ask of the model. Raises PydanticCustomError."""
        return Tooling.of(
            self.tools,
            self.tool_choice,
            parallel=self.parallel_tool_calls,
            answer=super().form(),
        )


def messages_text(messages: tuple[Message, ...], tools: tuple[ChatTool, ...] = ()) -> str:
    """Return a conversation as JSON, as the model's input format `messages` takes it."""
    turns = [message.turn for message in messages]
    if not tools:
        return json.dumps(turns)
    offered = [tool.model_dump(exclude_none=True) for tool in tools]
    return json.dumps({"messages": turns, "tools": offered})


def _prompts(value: Any) -> Any:
    """Return one prompt or several as texts and tuples of token ids."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(type(one) is int for one in value):
            return (_token_ids(value),)
        if all(isinstance(one, str) for one in value):
            return tuple(value)
        if all(isinstance(one, list) for one in value):
            return tuple(map(_token_ids, value))
    text = "must be a text, a list of texts, a list of token ids, or a list of such lists"
    raise PydanticCustomError("prompt", text)


def _token_ids(value: list[Any]) -> tuple[int, ...]:
    if value and all(type(one) is int and 0 <= one < _MAX_TOKEN_ID for one in value):
        return tuple(value)
    raise PydanticCustomError("prompt", "must have one token id or more, none of them negative")


Prompts: TypeAlias = Annotated[
    tuple[str | tuple[int, ...], ...],
    BeforeValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


class CompletionRequest(OpenAIRequest):
    """POST /v1/completions: the text is continued, no template is applied."""

    kind: ClassVar[str] = "text_completion"
    known: ClassVar[parameters.Known] = parameters.COMPLETIONS

    prompt: Prompts = Field(max_length=_MAX_PROMPTS)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None
    max_tokens: int | None = Field(default=None, ge=0, le=_MAX_TOKENS)

    @model_validator(mode="after")
    def _bounds(self) -> CompletionRequest:
        if sum(len(one) for one in self.prompt) > MAX_CHARACTERS:
            text = "must have at most {most} characters"
            raise PydanticCustomError("prompt", text, {"most": MAX_CHARACTERS, "param": "prompt"})
        if len(self.prompt) * self.n > _MAX_PROMPTS:
            text = "must not ask for more than {most} answers together with prompt"
            raise PydanticCustomError("n", text, {"most": _MAX_PROMPTS, "param": "n"})
        if self.max_tokens == 0 and (self.stream or not self.echo):
            text = "must be at least 1 unless echo is true and stream is not"
            raise PydanticCustomError("max_tokens", text, {"param": "max_tokens"})
        return self

    def _sampling_changes(self) -> dict[str, Any]:
        return {"top_logprobs": self.logprobs}

    def prompts(self) -> tuple[Prompt, ...]:
        """Return the texts as they are, and token ids as JSON."""
        return tuple(
            Prompt(one) if isinstance(one, str) else Prompt(json.dumps(one), "ids")
            for one in self.prompt
        )


def _seeded(sampling: Sampling, draw: int) -> Sampling:
    """Return the sampling of one choice."""
    if sampling.seed is None or draw == 0:
        return sampling
    seed = (sampling.seed + draw + _INT64) % (2 * _INT64) - _INT64
    return sampling.model_copy(update={"seed": seed})
