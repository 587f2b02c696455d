"""POST /v1/embeddings: vectors of texts, by the embedding model of the bundle.

The model sends the vectors as OpenAI's `encoding_format: base64` has them, batch by batch; for
`float` they are turned into numbers as they come, so that no other request waits for long.
"""

from __future__ import annotations

import array
import base64
import sys
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError, from_json, to_json
from starlette.responses import Response

from forge.device.gateway.errors import UnsupportedParameterError
from forge.device.gateway.generation import Generation, GenerationService, embedding_model
from forge.device.gateway.openai import parameters
from forge.device.gateway.openai.protocol import Prompts
from forge.device.gateway.openai.tokens import TokensRequest
from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError
from forge.serving.repository.spec import EmbeddingSpec
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished

__all__ = ["EmbeddingsRequest", "answer_embeddings"]

_MOST_INPUTS: Final = 2048  # as OpenAI's API
_FLOAT_BYTES: Final = 4


class EmbeddingsRequest(TokensRequest):
    """POST /v1/embeddings."""

    known: ClassVar[parameters.Known] = parameters.EMBEDDINGS

    model: str = Field(max_length=256)
    input: Annotated[Prompts, Field(min_length=1, max_length=_MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _bounds(self) -> EmbeddingsRequest:
        if not all(self.input):
            text = "must not have an empty text"
            raise PydanticCustomError("input", text, {"param": "input"})
        if len({type(one) for one in self.input}) > 1:
            text = "must be texts or lists of token ids, not both"
            raise PydanticCustomError("input", text, {"param": "input"})
        return self


async def answer_embeddings(service: GenerationService, request: EmbeddingsRequest) -> Response:
    """Return the vectors. Raises as GenerationService.start, and ModelNotFoundError."""
    serving, _ = service.upstream.get()
    if serving and request.dimensions is not None:
        _check_dimensions(serving, request.dimensions)
    wanted = GenerateRequest(to_json(request.input).decode(), input_format="embed")
    generation = await service.start(wanted, embedding_model)
    found = _Vectors(len(request.input), generation.serving, request.encoding_format)
    try:
        tokens = await _collect(generation, found)
        await generation.aclose("complete")
    finally:
        await generation.aclose()
    return Response(found.document(tokens), media_type="application/json")


def _check_dimensions(serving: ActiveServer, dimensions: int) -> None:
    """Refuse to shorten vectors: the model was not trained for it."""
    found = serving.embedding
    if found is not None and dimensions != found.dimensions:
        raise UnsupportedParameterError("dimensions")


async def _collect(generation: Generation, found: _Vectors) -> int:
    """Take the vectors and return the number of tokens."""
    async with generation.limited():
        while True:
            for event in await generation.next():
                if isinstance(event, Finished):
                    return event.input_tokens
                found.add(event.text)


class _Vectors:
    """The vectors of one request, as JSON.

    Args:
        count: how many there will be.
        serving: where they come from.
        encoding: of the answer.
    """

    def __init__(self, count: int, serving: ActiveServer, encoding: str) -> None:
        self._entries: list[bytes] = [b""] * count
        self._spec = _spec_of(serving)
        self._floats = encoding == "float"

    def add(self, lines: str) -> None:
        """Add what the model sent. Raises StepFailedError if it is not valid."""
        try:
            for line in lines.splitlines():
                index, encoded = from_json(line)
                vector = self._checked(encoded)
                entry = b'{"object":"embedding","index":%d,"embedding":%b}'
                self._entries[index] = entry % (index, to_json(vector))
        except (ValueError, TypeError, IndexError) as error:
            message = "The embedding model's answer is not valid"
            raise StepFailedError(message, why=repr(error), hint="see Triton's log") from None

    def document(self, tokens: int) -> bytes:
        """Return the answer. Raises StepFailedError if a vector is missing."""
        if not all(self._entries):
            raise StepFailedError("The embedding model left out some of the inputs")
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (
            b",".join(self._entries),
            to_json(self._spec.name),
            to_json(usage),
        )

    def _checked(self, encoded: Any) -> str | list[float]:
        data = base64.b64decode(encoded, validate=True)
        if len(data) != self._spec.dimensions * _FLOAT_BYTES:
            raise ValueError(f"a vector has {len(data)} bytes")
        if not self._floats:
            return str(encoded)
        numbers = array.array("f", data)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()


def _spec_of(serving: ActiveServer) -> EmbeddingSpec:
    if serving.embedding is None:
        raise AssertionError("embedding_model chose it")
    return serving.embedding
