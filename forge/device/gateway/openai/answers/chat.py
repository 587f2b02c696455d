"""POST /v1/chat/completions: whole answers and streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from forge.canonical import Json
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
from forge.serving.triton.stream import TokenLogprob

__all__ = ["answer_chat"]

_ID = "chatcmpl"


async def answer_chat(service: GenerationService, request: ChatRequest) -> ASGIApp:
    """Return the response. Raises as GenerationService.start."""
    asked = await asked_of(service, request.generate_requests(), request.limit_name)
    if request.stream:
        return await stream(service, request, asked, ChatChunks())
    said = await together([partial(collect, service, one) for one in asked])
    return JSONResponse(_document(request, asked, said))


def _document(
    request: ChatRequest, asked: Sequence[Asked], said: Sequence[Said]
) -> dict[str, Json]:
    choices: list[Json] = [_choice(request, index, one) for index, one in enumerate(said)]
    head = head_of(said[0].serving, _ID, request.kind)
    usage = usage_of([one.choice for one in said], len(asked))
    return {**head, "choices": choices, **({"usage": usage} if usage else {})}


def _choice(request: ChatRequest, index: int, said: Said) -> dict[str, Json]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": said.text, "refusal": None},
        "logprobs": chat_logprobs(said.logprobs) if request.wants_logprobs else None,
        "finish_reason": said.choice.finish_reason,
    }


class ChatChunks:
    """The content of a chat's chunks."""

    id_prefix = _ID
    object = "chat.completion.chunk"

    def opening(self, _index: int, /) -> dict[str, Json] | None:
        """Return the role."""
        return {"delta": {"role": "assistant", "content": ""}}

    def text(self, text: str, /) -> dict[str, Json]:
        """Return the next piece of the message; the last chunk has none."""
        return {"delta": {"content": text} if text else {}}

    def logprobs(self, _index: int, tokens: Sequence[TokenLogprob], /) -> Json:
        """Return the logarithms of the tokens of a chunk."""
        return chat_logprobs(tokens)
