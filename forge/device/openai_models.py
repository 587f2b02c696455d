"""What OpenAI's clients may ask of a device, and what it means here. Pure.

A parameter that would change the answer and cannot be obeyed is refused; its neutral value is
taken, since clients send it unasked.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from forge.device.answers import Question

__all__ = ["ChatRequest", "CompletionRequest", "OpenAIRequest", "Problem", "problem"]

_MAX_TOKENS: Final = 32_768
_MAX_CHARACTERS: Final = 100_000
_MAX_MESSAGES: Final = 256
_UNSUPPORTED: Final = "unsupported_parameter"
# Values with which a parameter asks for nothing; None always does. Told about the caller: anything.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "seed": (),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
_ABOUT_THE_CALLER: Final = ("user", "safety_identifier", "prompt_cache_key", "metadata")

Text = Annotated[str, Field(max_length=_MAX_CHARACTERS)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[_Part]

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: Any) -> Any:
        """An answer that is sent back has fields that say nothing."""
        if not isinstance(value, dict):
            return value
        return {key: one for key, one in value.items() if one is not None and one != []}

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream shall hold besides the text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False  # padding against listeners; there is none either way


class OpenAIRequest(BaseModel):
    """What both ways of asking share; temperature 0 unless another is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: ClassVar[str] = ""

    model: str = Field(max_length=256)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, given in value.items():
            if name in _ABOUT_THE_CALLER:
                continue
            if name not in _NEUTRAL:
                kept[name] = given
            elif given is not None and given not in _NEUTRAL[name]:
                text = "{name} is not supported by this device"
                raise PydanticCustomError(_UNSUPPORTED, text, {"name": name})
        return kept

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with the counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def question(self) -> Question:
        """What the model is asked."""
        raise NotImplementedError


class ChatRequest(OpenAIRequest):
    """POST /v1/chat/completions."""

    kind: ClassVar[str] = "chat.completion"

    messages: list[Message] = Field(min_length=1, max_length=_MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)

    @model_validator(mode="after")
    def _not_too_long(self) -> ChatRequest:
        if sum(len(message.text) for message in self.messages) > _MAX_CHARACTERS:
            text = "messages have more than {most} characters"
            raise PydanticCustomError("string_too_long", text, {"most": _MAX_CHARACTERS})
        return self

    def question(self) -> Question:
        """One message of the user as every model takes it; more as a list, for its template."""
        limit = self.max_completion_tokens or self.max_tokens
        temperature = self.temperature or 0.0
        first, *others = self.messages
        if first.role == "user" and not others:
            return Question(first.text, limit, temperature)
        turns = [
            {"role": "system" if one.role == "developer" else one.role, "content": one.text}
            for one in self.messages
        ]
        return Question(json.dumps(turns), limit, temperature, "messages")


class CompletionRequest(OpenAIRequest):
    """POST /v1/completions: the text goes on, no template is applied."""

    kind: ClassVar[str] = "text_completion"

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]

    def question(self) -> Question:
        """The text as it is."""
        prompt = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        return Question(prompt, self.max_tokens, self.temperature or 0.0, "raw")


class Problem(BaseModel):
    """What is wrong with a request, in OpenAI's words."""

    message: str
    param: str | None
    code: str


def problem(error: ValidationError) -> Problem:
    """The first thing that is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, message = first["type"], first["msg"]
    param = str(first["ctx"]["name"]) if kind == _UNSUPPORTED else ".".join(map(str, first["loc"]))
    codes = {
        "extra_forbidden": "unknown_parameter",
        "missing": "missing_required_parameter",
        _UNSUPPORTED: _UNSUPPORTED,
    }
    code = codes.get(kind, "invalid_value")
    if code == "unknown_parameter":
        message = f"{param} is not known to this device"
    elif code != _UNSUPPORTED:
        message = f"{param or 'body'}: {message}"
    return Problem(message=message, param=param or None, code=code)
