"""POST /v1/chat/completions: whole answers and streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from forge.canonical import Json
from forge.device.gateway.errors import UnsupportedParameterError
from forge.device.gateway.generation import GenerationService
from forge.device.gateway.openai.answers.choices import (
    Asked,
    Said,
    asked_of,
    collect,
    together,
    usage_of,
)
from forge.device.gateway.openai.answers.chunks import head_of, stream
from forge.device.gateway.openai.answers.logprobs import chat_logprobs
from forge.device.gateway.openai.protocol import ChatRequest
from forge.device.gateway.openai.tool_calls import (
    FORMATS,
    CallParser,
    ContentDelta,
    ToolCallDelta,
    whole_answer,
)
from forge.device.gateway.openai.tooling import Tooling
from forge.serving.triton.stream import TokenLogprob

__all__ = ["answer_chat", "call_parser"]

_ID = "chatcmpl"


async def answer_chat(service: GenerationService, request: ChatRequest) -> ASGIApp:
    """Return the response.

    Raises as GenerationService.start, and UnsupportedParameterError for tools of a model that
    makes no calls.
    """
    asked = await asked_of(service, request.generate_requests(), request.limit_name)
    parsers = [await call_parser(service, request.tooling) for _ in asked]
    if request.stream:
        return await stream(service, request, asked, ChatChunks(parsers))
    said = await together([partial(collect, service, one) for one in asked])
    return JSONResponse(_document(request, asked, said, parsers))


async def call_parser(service: GenerationService, tooling: Tooling) -> CallParser | None:
    """Return a parser for one answer; None if no tools are offered.

    Raises:
        UnsupportedParameterError: the model makes no calls of tools.
        StepFailedError: its server does not say what the model can do.
    """
    serving, _ = service.upstream.get()
    if not tooling.tools or serving is None:
        return None
    found = (await service.backend.describe(serving)).tool_calls
    if found not in FORMATS:
        raise UnsupportedParameterError("tools")
    return tooling.parser(found)


def _document(
    request: ChatRequest,
    asked: Sequence[Asked],
    said: Sequence[Said],
    parsers: Sequence[CallParser | None],
) -> dict[str, Json]:
    choices: list[Json] = [
        _choice(request, index, one, parser)
        for index, (one, parser) in enumerate(zip(said, parsers, strict=True))
    ]
    head = head_of(said[0].serving, _ID, request.kind)
    usage = usage_of([one.choice for one in said], len(asked))
    return {**head, "choices": choices, **({"usage": usage} if usage else {})}


def _choice(
    request: ChatRequest, index: int, said: Said, parser: CallParser | None
) -> dict[str, Json]:
    message: dict[str, Json] = {"role": "assistant", "content": said.text, "refusal": None}
    if parser:
        message |= _message(said.text, parser)
    return {
        "index": index,
        "message": message,
        "logprobs": chat_logprobs(said.logprobs) if request.wants_logprobs else None,
        "finish_reason": _reason(said.choice.finish_reason, parser),
    }


def _message(text: str, parser: CallParser) -> dict[str, Json]:
    """Return the content and the calls of an answer."""
    found = whole_answer(parser, text)
    if not found.calls:
        return {"content": found.content}
    calls: list[Json] = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in found.calls
    ]
    return {"content": found.content or None, "tool_calls": calls}


def _reason(reason: str, parser: CallParser | None) -> str:
    return "tool_calls" if parser and parser.called and reason == "stop" else reason


class ChatChunks:
    """The content of a chat's chunks.

    Args:
        parsers: of each choice; None: no tools are offered.
    """

    id_prefix = _ID
    object = "chat.completion.chunk"

    def __init__(self, parsers: Sequence[CallParser | None]) -> None:
        self._parsers = parsers

    def opening(self, _index: int, /) -> dict[str, Json] | None:
        """Return the role."""
        return {"delta": {"role": "assistant", "content": ""}}

    def text(self, text: str, /) -> dict[str, Json]:
        """Return the next piece of the message; the last chunk has none."""
        return {"delta": {"content": text} if text else {}}

    def parts(self, index: int, text: str, /, *, last: bool) -> list[dict[str, Json]] | None:
        """Return the content and the calls in the next piece; None: it is all content."""
        parser = self._parsers[index]
        if parser is None:
            return None
        deltas = parser.feed(text)
        deltas += parser.finish() if last else []
        return [self.text(one.text) if isinstance(one, ContentDelta) else _call(one)
                for one in deltas]  # fmt: skip

    def finish_reason(self, index: int, reason: str, /) -> str:
        """Return the reason in the last chunk."""
        return _reason(reason, self._parsers[index])

    def logprobs(self, _index: int, tokens: Sequence[TokenLogprob], /) -> Json:
        """Return the logarithms of the tokens of a chunk."""
        return chat_logprobs(tokens)


def _call(delta: ToolCallDelta) -> dict[str, Json]:
    """Return the content of a chunk with a part of a call."""
    function: dict[str, Json] = {"arguments": delta.arguments}
    call: dict[str, Json] = {"index": delta.index, "function": function}
    if delta.id is not None:
        call |= {"id": delta.id, "type": "function", "function": {"name": delta.name, **function}}
    return {"delta": {"tool_calls": [call]}}
