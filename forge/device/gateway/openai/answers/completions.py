"""POST /v1/completions: whole answers and streams, with the prompt in front if it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from forge.canonical import Json
from forge.device.gateway.errors import ServiceUnavailableError
from forge.device.gateway.generation import GenerationService
from forge.device.gateway.openai import tokens
from forge.device.gateway.openai.answers.choices import (
    Choice,
    Said,
    TokenCounts,
    asked_of,
    collect,
    together,
    usage_of,
)
from forge.device.gateway.openai.answers.chunks import head_of, stream
from forge.device.gateway.openai.answers.logprobs import CompletionLogprobs
from forge.device.gateway.openai.protocol import CompletionRequest
from forge.serving.triton.stream import TokenLogprob

__all__ = ["answer_completion"]

_ID: Final = "cmpl"


@dataclass(frozen=True, slots=True)
class _Echo:
    """A prompt as the answer repeats it.

    Attributes:
        text: the prompt's.
        scored: the texts of its tokens with their logarithms, which the first one has not.
        tokens: how many it has; 0: not counted.
    """

    text: str = ""
    scored: tuple[tuple[str, TokenLogprob | None], ...] = ()
    tokens: int = 0

    @property
    def offset(self) -> int:
        """Return where the first token begins; below 0 if it is not in the text."""
        first = self.scored[0][0] if self.scored else ""
        return 0 if self.text.startswith(first) else -len(first)


async def answer_completion(service: GenerationService, request: CompletionRequest) -> ASGIApp:
    """Return the response. Raises as GenerationService.start."""
    echoes = await _echoes(service, request)
    if request.max_tokens == 0:
        return _prompts_only(service, request, echoes)
    asked = await asked_of(service, request.generate_requests(), request.limit_name)
    if request.stream:
        return await stream(service, request, asked, CompletionChunks(request, echoes))
    said = await together([partial(collect, service, one) for one in asked])
    return _document(request, echoes, said)


async def _echoes(service: GenerationService, request: CompletionRequest) -> list[_Echo]:
    """Return what stands before each choice."""
    if not request.echo:
        return [_Echo()] * (len(request.prompt) * request.n)
    found = await together([partial(_echo, service, request, one) for one in request.prompt])
    return [one for one in found for _ in range(request.n)]


async def _echo(
    service: GenerationService, request: CompletionRequest, prompt: str | tuple[int, ...]
) -> _Echo:
    if not request.wants_logprobs and isinstance(prompt, str) and request.max_tokens != 0:
        return _Echo(prompt)
    ids = await tokens.of_text(service, prompt) if isinstance(prompt, str) else prompt
    text = prompt if isinstance(prompt, str) else await tokens.text_of(service, ids)
    if not request.wants_logprobs:
        return _Echo(text, tokens=len(ids))
    first = await tokens.text_of(service, ids[:1])
    rest = await tokens.scores(service, ids, request.logprobs or 0)
    return _Echo(text, ((first, None), *((one.token, one) for one in rest)), len(ids))


def _prompts_only(
    service: GenerationService, request: CompletionRequest, echoes: Sequence[_Echo]
) -> Response:
    """Return the prompts with nothing after them."""
    serving, reason = service.upstream.get()
    if serving is None:
        raise ServiceUnavailableError("No bundle is active", hint=reason)
    said = [
        Said(Choice((), "length", TokenCounts(echo.tokens, 0)), "", (), serving) for echo in echoes
    ]
    return _document(request, echoes, said)


def _document(
    request: CompletionRequest, echoes: Sequence[_Echo], said: Sequence[Said]
) -> Response:
    choices: list[Json] = [
        _choice(request, index, echo, one)
        for index, (echo, one) in enumerate(zip(echoes, said, strict=True))
    ]
    usage = usage_of([one.choice for one in said], request.n)
    head = head_of(said[0].serving, _ID, request.kind)
    return JSONResponse({**head, "choices": choices, **({"usage": usage} if usage else {})})


def _choice(request: CompletionRequest, index: int, echo: _Echo, said: Said) -> dict[str, Json]:
    logprobs: Json = None
    if request.wants_logprobs:
        named: list[tuple[str, TokenLogprob | None]] = [(one.token, one) for one in said.logprobs]
        if echo.scored and not named and request.max_tokens != 0:
            named = [("", None)]  # the end-of-text token came first; clients count on a last token
        logprobs = CompletionLogprobs(echo.offset).of_named([*echo.scored, *named])
    return {
        "index": index,
        "text": echo.text + said.text,
        "logprobs": logprobs,
        "finish_reason": said.choice.finish_reason,
    }


class CompletionChunks:
    """The content of a completion's chunks."""

    id_prefix = _ID
    object = CompletionRequest.kind

    def __init__(self, request: CompletionRequest, echoes: Sequence[_Echo]) -> None:
        self._logprobs = request.wants_logprobs
        self._echoes = echoes
        self._lists = [CompletionLogprobs(echo.offset) for echo in echoes]

    def opening(self, index: int, /) -> dict[str, Json] | None:
        """Return the prompt, if it is repeated."""
        echo = self._echoes[index]
        if not echo.text:
            return None
        scored = self._lists[index].of_named(echo.scored) if self._logprobs else None
        return {"text": echo.text, "logprobs": scored}

    def text(self, text: str, /) -> dict[str, Json]:
        """Return the next piece of the text."""
        return {"text": text}

    def parts(self, _index: int, _text: str, /, *, last: bool) -> None:
        """Return None: all is text."""

    def finish_reason(self, _index: int, reason: str, /) -> str:
        """Return the model's own reason."""
        return reason

    def logprobs(self, index: int, tokens: Sequence[TokenLogprob], /) -> Json:
        """Return the logarithms of the tokens of a chunk."""
        return self._lists[index].of(tokens)
