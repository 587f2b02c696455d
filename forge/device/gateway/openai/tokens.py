"""Tokens of a model: POST /tokenize and /detokenize in vLLM's shapes, and scores of prompts.

The model's own tokenizer does it, through input formats that not every model has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import from_json
from starlette.responses import JSONResponse, Response

from forge.device.gateway.errors import UnsupportedParameterError
from forge.device.gateway.generation import (
    GenerationService,
    ModelChoice,
    embedding_model,
    generating_model,
)
from forge.device.gateway.openai import parameters
from forge.device.gateway.openai.messages import MAX_CHARACTERS, ChatTool, Listed, Message
from forge.errors import StepFailedError, UsageError
from forge.serving.sampling import Sampling
from forge.serving.triton.request import GenerateRequest, InputFormat
from forge.serving.triton.stream import Finished, Token, TokenLogprob, token_logprobs

__all__ = [
    "DetokenizeRequest",
    "TokenizeRequest",
    "TokensRequest",
    "detokenize",
    "of_text",
    "scores",
    "text_of",
    "tokenize",
]

_MAX_TOKENS: Final = 131_072
_LEAST_SCORED: Final = 2  # a token and the one before it
_NO_FORMAT: Final = ("input_format", "does not score")  # templates/shared/{turns,streaming}.py
_GREEDY: Final = Sampling()

_KNOWN: Final[parameters.Known] = {
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "mm_processor_kwargs": ({},),
    "return_token_strs": (False,),
}


class TokensRequest(BaseModel):
    """What requests about tokens and vectors share: no sampling parameters."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    known: ClassVar[parameters.Known] = {}

    model: str | None = Field(default=None, max_length=256)

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, value: Any) -> Any:
        return parameters.without_neutral(value, cls.known) if isinstance(value, dict) else value

    def spelled(self, name: str) -> str:
        """Return the name of what the model does not support."""
        return name


class TokenizeRequest(TokensRequest):
    """POST /tokenize: a text, or messages to which the chat template is applied."""

    known: ClassVar[parameters.Known] = _KNOWN

    prompt: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    messages: Annotated[tuple[Message, ...], Listed] = Field(default=(), max_length=256)
    tools: Annotated[tuple[ChatTool, ...], Listed] = Field(default=(), max_length=128)
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("give either prompt or messages")
        if self.messages and self.add_special_tokens:
            raise parameters.unsupported("add_special_tokens")
        return self

    @property
    def text(self) -> str:
        """Return the request as the model's input format `tokenize` takes it."""
        if self.prompt is not None:
            special = self.add_special_tokens is not False
            return json.dumps({"text": self.prompt, "add_special_tokens": special})
        asked: dict[str, Any] = {
            "messages": [message.turn for message in self.messages],
            "add_generation_prompt": self.add_generation_prompt,
        }
        if self.tools:
            asked["tools"] = [tool.model_dump(exclude_none=True) for tool in self.tools]
        return json.dumps(asked)


class DetokenizeRequest(TokensRequest):
    """POST /detokenize."""

    tokens: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Listed] = Field(
        max_length=_MAX_TOKENS
    )


async def tokenize(service: GenerationService, request: TokenizeRequest) -> Response:
    """Return the tokens of a text or of messages."""
    serving, _ = service.upstream.get()
    embedding = serving.embedding if serving else None
    if embedding and embedding.name == request.model:
        ids = await _ids(service, request.text, "/tokenize", embedding_model)
        longest = embedding.max_seq_len
    else:
        ids = await _ids(service, request.text, "/tokenize")
        longest = serving.max_seq_len if serving else 0
    return JSONResponse(
        {"count": len(ids), "max_model_len": longest, "tokens": ids, "token_strs": None}
    )


async def detokenize(service: GenerationService, request: DetokenizeRequest) -> Response:
    """Return the text of tokens."""
    return JSONResponse({"prompt": await text_of(service, request.tokens, "/detokenize")})


async def of_text(service: GenerationService, text: str) -> tuple[int, ...]:
    """Return the tokens with which the model continues a text."""
    asked = json.dumps({"text": text, "add_special_tokens": True})
    return tuple(await _ids(service, asked, "echo"))


async def text_of(service: GenerationService, ids: Sequence[int], asker: str = "echo") -> str:
    """Return the text of tokens, special ones too.

    Raises UnsupportedParameterError in the name of what asks for it, if the model cannot tell.
    """
    if not ids:
        return ""
    return await _ask(service, json.dumps(list(ids)), "detokenize", asker)


async def scores(
    service: GenerationService, ids: Sequence[int], alternatives: int
) -> tuple[TokenLogprob, ...]:
    """Return the logarithms of all tokens but the first, each after the ones before it."""
    if len(ids) < _LEAST_SCORED:
        return ()
    sampling = Sampling(top_logprobs=alternatives)
    found = token_logprobs(await _ask(service, json.dumps(list(ids)), "score", "echo", sampling))
    if len(found) != len(ids) - 1:
        raise StepFailedError(f"The model scored {len(found)} of {len(ids) - 1} tokens")
    return found


async def _ids(
    service: GenerationService, text: str, asker: str, model: ModelChoice = generating_model
) -> list[int]:
    answer = await _ask(service, text, "tokenize", asker, model=model)
    try:
        return [int(one) for one in from_json(answer)]
    except (ValueError, TypeError) as error:
        raise StepFailedError("The model's tokens are not valid", why=repr(error)) from None


async def _ask(
    service: GenerationService,
    text: str,
    input_format: InputFormat,
    asker: str,
    sampling: Sampling = _GREEDY,
    model: ModelChoice = generating_model,
) -> str:
    """Return the one text with which the model answers."""
    request = GenerateRequest(text, None, sampling, input_format)
    try:
        generation = await service.start(request, model)
    except UsageError as error:
        if any(sign in f"{error.what} {error.why}" for sign in _NO_FORMAT):
            raise UnsupportedParameterError(asker) from None
        raise
    said: list[str] = []
    finished = False
    try:
        async with generation.limited():
            while not finished:
                batch = await generation.next()
                said += [event.text for event in batch if isinstance(event, Token)]
                finished = isinstance(batch[-1], Finished)
        await generation.aclose("complete")
    finally:
        await generation.aclose()
    return "".join(said)
