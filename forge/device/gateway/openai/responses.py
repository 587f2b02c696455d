"""POST /v1/responses without state: what is asked, as a chat, and the answer.

Nothing is kept: `store` must be false or absent, and `previous_response_id` is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from forge.device.gateway.errors import openai_error
from forge.device.gateway.generation import GenerationService
from forge.device.gateway.openai import parameters
from forge.device.gateway.openai.answers.chat import call_parser
from forge.device.gateway.openai.answers.choices import asked_of, collect
from forge.device.gateway.openai.answers.response_documents import ResponseWriter, items_of
from forge.device.gateway.openai.answers.response_events import ResponseEncoder
from forge.device.gateway.openai.messages import (
    MAX_CHARACTERS,
    Listed,
    Message,
    Shape,
    functions_only,
    tool_choice,
    unsupported_value,
)
from forge.device.gateway.openai.problems import RequestProblem, problem
from forge.device.gateway.openai.protocol import ChatRequest
from forge.device.gateway.sse import EventStream
from forge.serving.sampling import Sampling

__all__ = ["ResponsesRequest", "answer_response"]

_LOGPROBS: Final = "message.output_text.logprobs"
_MAX_ITEMS: Final = 256
# Names of a chat's parameters as this API calls them
_NAMES: Final = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "logprobs": "include",
}


class TextFormat(Shape):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, max_length=128)
    description: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @property
    def of_chat(self) -> dict[str, Any]:
        """Return it as a chat's `response_format`."""
        if self.type != "json_schema":
            return {"type": self.type}
        schema = self.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
        return {"type": self.type, "json_schema": schema}


class TextConfig(Shape):
    """How the answer's text is made."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class FunctionTool(Shape):
    """A function that the model may call."""

    type: Literal["function"]
    name: str = Field(max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _functions_only(cls, value: Any) -> Any:
        return functions_only(value)

    @property
    def of_chat(self) -> dict[str, Any]:
        """Return it as a chat's tool."""
        return {"type": "function", "function": self.model_dump(exclude={"type"})}


class FunctionChoice(Shape):
    """A choice that forces one function."""

    type: Literal["function"]
    name: str = Field(max_length=128)


def _choice(value: Any) -> Any:
    return tool_choice(value, FunctionChoice)


def _items(value: Any) -> Any:
    """Return the input as messages in a chat's shape; None for an item without effect."""
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    if not isinstance(value, list):
        raise PydanticCustomError("input", "must be a string or a list of items")
    return tuple(map(_item, value))


def _item(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value.get("type", "message")
    if kind == "reasoning":
        return None
    if kind == "function_call":
        function = {"name": value.get("name"), "arguments": value.get("arguments")}
        call = {"id": value.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "tool_calls": [call]}
    if kind == "function_call_output":
        output = {"tool_call_id": value.get("call_id"), "content": value.get("output")}
        return {"role": "tool", **output}
    if kind != "message":
        raise unsupported_value(f"items of the type {str(kind)[:60]!r} are not supported")
    return {
        name: one for name, one in value.items() if name not in {"type", "id", "status", "phase"}
    }


class ResponsesRequest(Sampling):
    """What is asked; temperature is 0 unless the request sets it."""

    known: ClassVar[parameters.Known] = parameters.RESPONSES

    model: str = Field(max_length=256)
    input: Annotated[
        tuple[Message | None, ...],
        BeforeValidator(_items, json_schema_input_type=str | list[dict[str, Any]]),
    ] = Field(min_length=1, max_length=_MAX_ITEMS)
    instructions: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    max_output_tokens: int | None = Field(default=None, ge=1, le=32_768)
    text: TextConfig | None = None
    tools: Annotated[tuple[FunctionTool, ...], Listed] = Field(default=(), max_length=128)
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | FunctionChoice | None, BeforeValidator(_choice)
    ] = None
    parallel_tool_calls: bool | None = None
    include: Annotated[
        tuple[Literal["message.output_text.logprobs", "reasoning.encrypted_content"], ...], Listed
    ] = ()
    metadata: dict[str, str] | None = None
    stream: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return parameters.without_neutral(value, cls.known)

    def spelled(self, name: str) -> str:
        """Return how this API names a field of Sampling."""
        names = {"top_logprobs": "include", "structured_outputs": "text.format"}
        return names.get(name, name)

    @property
    def chat(self) -> ChatRequest:
        """Return the same as a chat. Raises ValidationError for what a chat refuses."""
        sampling = Sampling.of(self).model_dump(
            exclude_defaults=True, exclude={"top_logprobs"}, by_alias=True
        )
        body: dict[str, Any] = {
            **sampling,
            "model": self.model,
            "messages": self._messages(),
            "max_completion_tokens": self.max_output_tokens,
            "stream": self.stream,
            "tools": [tool.of_chat for tool in self.tools],
            "tool_choice": self._tool_choice(),
            "parallel_tool_calls": self.parallel_tool_calls,
        }
        if self.text and self.text.format:
            body["response_format"] = self.text.format.of_chat
        if _LOGPROBS in self.include:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        return ChatRequest.model_validate(body)

    def _tool_choice(self) -> Any:
        if isinstance(self.tool_choice, FunctionChoice):
            return {"type": "function", "function": {"name": self.tool_choice.name}}
        return self.tool_choice

    def _messages(self) -> list[Message]:
        """Return the conversation; calls of functions that follow each other are one message."""
        found: list[Message] = []
        if self.instructions:
            found.append(Message.model_validate({"role": "system", "content": self.instructions}))
        for message in self.input:
            if message is None:
                continue
            if message.tool_calls and found and found[-1].role == "assistant":
                calls = (*found[-1].tool_calls, *message.tool_calls)
                found[-1] = found[-1].model_copy(update={"tool_calls": calls})
            else:
                found.append(message)
        return found


async def answer_response(service: GenerationService, request: ResponsesRequest) -> ASGIApp:
    """Return the response. Raises as GenerationService.start."""
    try:
        chat = request.chat
    except ValidationError as error:
        return _refused(problem(error))
    (asked,) = await asked_of(service, chat.generate_requests(), "max_output_tokens")
    parser = await call_parser(service, chat.tooling)
    if not request.stream:
        said = await collect(service, asked)
        writer = ResponseWriter(_given(request), said.serving, logprobs=chat.wants_logprobs)
        items = items_of(writer, said.text, said.logprobs, parser)
        return JSONResponse(writer.complete(said.choice, items))
    generation = await service.start(asked.request)
    writer = ResponseWriter(_given(request), generation.serving, logprobs=chat.wants_logprobs)
    encoder = ResponseEncoder(service.metrics, writer, asked, parser)
    return EventStream(generation, encoder)


def _refused(found: RequestProblem) -> JSONResponse:
    param, message = found.param, found.message
    for name, renamed in _NAMES.items():
        if param and param.startswith(name):
            param = param.replace(name, renamed, 1)
            message = message.replace(name, renamed, 1)
    return JSONResponse(openai_error(400, message, param=param, code=found.code), status_code=400)


def _given(request: ResponsesRequest) -> dict[str, Any]:
    """Return the parameters that an answer repeats."""
    kind = request.text.format if request.text else None
    choice = request.tool_choice
    return {
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "temperature": request.temperature,
        "text": {
            "format": kind.model_dump(by_alias=True, exclude_none=True)
            if kind
            else {"type": "text"}
        },
        "tool_choice": choice.model_dump()
        if isinstance(choice, FunctionChoice)
        else choice or "auto",
        "tools": [tool.model_dump() for tool in request.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
    }
