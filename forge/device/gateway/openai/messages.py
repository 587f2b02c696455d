"""Messages of a conversation and the tools it may use, in OpenAI's shapes. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

__all__ = [
    "IGNORED",
    "MAX_CHARACTERS",
    "AllowedFunction",
    "ChatTool",
    "ContentPart",
    "FunctionCall",
    "JsonSchema",
    "Listed",
    "Message",
    "NamedToolChoice",
    "ResponseFormat",
    "Shape",
    "ToolCall",
    "ToolChoice",
    "ToolFunction",
    "Turn",
    "functions_only",
    "tool_choice",
    "unsupported_value",
]

MAX_CHARACTERS: Final = 100_000
_UNSUPPORTED_PARTS: Final = {
    "image_url": "images are not supported",
    "input_image": "images are not supported",
    "image": "images are not supported",
    "input_audio": "audio is not supported",
    "audio_url": "audio is not supported",
    "video_url": "videos are not supported",
    "file": "files are not supported",
    "input_file": "files are not supported",
}
IGNORED: Final = ("name", "refusal", "annotations", "reasoning", "reasoning_content", "audio")
"""Fields of a message without effect, which other APIs' answers have."""
Turn: TypeAlias = "dict[str, Any]"
"""A message as the model gets it: role, content and, where it has them, tool calls."""

Text: TypeAlias = Annotated[str, Field(max_length=MAX_CHARACTERS)]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # strict models take no list for it


Listed: Final = BeforeValidator(_tuple)
"""Marks a tuple that JSON writes as a list."""


def unsupported_value(message: str) -> PydanticCustomError:
    """Return the error of a value that OpenAI's API has and this device does not."""
    return PydanticCustomError("unsupported_value", "{message}", {"message": message})


class Shape(BaseModel):
    """A part of a request; fields that it does not have are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ContentPart(Shape):
    """A part of a message's content."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: Text

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kind = value.get("type")
        if isinstance(kind, str) and kind in _UNSUPPORTED_PARTS:
            raise unsupported_value(_UNSUPPORTED_PARTS[kind])
        if kind == "refusal" and "text" not in value:
            return {"type": kind, "text": value.get("refusal")}
        known = ("annotations", "logprobs", "prompt_cache_breakpoint")
        return {name: one for name, one in value.items() if name not in known}


def _parts(value: Any) -> Any:
    """Return content as its parts: a text is one, null has none."""
    if value is None:
        return ()
    if isinstance(value, str):
        return ({"type": "text", "text": value},)
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "must be a string or a list of parts")
    return tuple(value)


Content = Annotated[
    tuple[ContentPart, ...],
    BeforeValidator(_parts, json_schema_input_type=str | list[ContentPart] | None),
]


class FunctionCall(Shape):
    """The call of a function: its name, and its arguments as JSON text."""

    name: str = Field(max_length=256)
    arguments: Text


class ToolCall(Shape):
    """A call that the assistant made."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Shape):
    """One turn of a conversation.

    Only the assistant has `tool_calls`; only a `tool` message has `tool_call_id`, which names the
    call that it answers.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = ()
    tool_calls: Annotated[tuple[ToolCall, ...], Listed] = Field(default=(), max_length=128)
    tool_call_id: str | None = Field(default=None, max_length=256)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, value: Any) -> Any:
        """Drop empty fields, which an answer that is sent back has, and those without effect."""
        if not isinstance(value, dict):
            return value
        refusal = value.get("refusal")
        if refusal and value.get("content") is None and value.get("role") == "assistant":
            value = {**value, "content": refusal}
        return {
            name: one
            for name, one in value.items()
            if one is not None and name not in IGNORED and (one != [] or name == "content")
        }

    @model_validator(mode="after")
    def _has_what_its_role_needs(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError(
                "tool_calls", "belongs to a message of the role assistant", {"field": "tool_calls"}
            )
        if (self.role == "tool") != (self.tool_call_id is not None):
            text = "belongs to a message of the role tool, which requires it"
            raise PydanticCustomError("tool_call_id", text, {"field": "tool_call_id"})
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise PydanticCustomError("no_content", "is required", {"field": "content"})
        return self

    @property
    def text(self) -> str:
        """Return the content as one string; parts are joined without a separator."""
        return "".join(part.text for part in self.content)

    @property
    def turn(self) -> Turn:
        """Return the message as the model gets it."""
        turn: Turn = {
            "role": "system" if self.role == "developer" else self.role,
            "content": self.text,
        }
        if self.tool_calls:
            turn["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn


class ToolFunction(Shape):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatTool(Shape):
    """A tool that the model may use."""

    type: Literal["function"]
    function: ToolFunction

    @model_validator(mode="before")
    @classmethod
    def _functions_only(cls, value: Any) -> Any:
        return functions_only(value)


class AllowedFunction(Shape):
    """The name of the one function that must be called."""

    name: str = Field(max_length=256)


class NamedToolChoice(Shape):
    """A choice that forces one function."""

    type: Literal["function"] = "function"
    function: AllowedFunction


def functions_only(value: Any) -> Any:
    """Return what describes a tool; refuse one that is not a function."""
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise unsupported_value(f"tools of the type {kind[:60]!r} are not supported")
    return value


def tool_choice(value: Any, named: type[Shape]) -> Any:
    """Return the choice of a tool as a word or as the model of one that names a function."""
    if isinstance(value, dict):
        return named.model_validate(value)
    if value in ("none", "auto", "required"):
        return value
    text = "must be 'none', 'auto', 'required' or an object that names a function"
    raise PydanticCustomError("tool_choice", text)


def _choice(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") not in {None, "function"}:
        raise unsupported_value(f"the type {str(value['type'])[:60]!r} is not supported")
    return tool_choice(value, NamedToolChoice)


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedToolChoice, BeforeValidator(_choice)
]
"""Whether the model must, may or may not call a tool, or which one it must call."""


class JsonSchema(Shape):
    """A schema for the answer; `strict` changes nothing, since the grammar always holds."""

    name: str = Field(default="answer", max_length=128)
    description: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Shape):
    """The form of the answer: plain text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            text = "belongs to the type json_schema, which requires it"
            raise PydanticCustomError("json_schema", text, {"field": "json_schema"})
        return self
