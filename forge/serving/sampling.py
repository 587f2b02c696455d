"""How the next token is chosen: the one declaration of the parameters that a request may set.

The API's requests inherit from `Sampling`, the client of Triton sends it whole, and config.pbtxt
declares an input for each parameter that the template's model supports. The models themselves
import nothing of Forge: their declaration is in templates/shared/sampling.py, and a test compares
both.
"""

from __future__ import annotations

import json
import types
import typing
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["INPUT_TYPES", "Sampling", "StructuredOutputs"]

_TRITON_TYPES: Final = {float: "TYPE_FP32", int: "TYPE_INT32", bool: "TYPE_BOOL"}
_TEXT: Final = "TYPE_STRING"  # JSON of a value that is not a number
_MAX_STOPS: Final = 16
_MAX_LOGPROBS: Final = 20  # as OpenAI's API
_INT64: Final = 2**63
Stop: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value  # strict models take no list for it


class StructuredOutputs(BaseModel):
    """The form that an answer must have; exactly one of the fields, named as in vLLM's API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = Field(default=None, description="EBNF of llama.cpp or xgrammar")

    @model_validator(mode="after")
    def _one_form(self) -> StructuredOutputs:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("give exactly one of json, json_object, regex, choice and grammar")
        return self


class Sampling(BaseModel):
    """Sampling parameters; each default changes nothing, so that a default is never sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    temperature: float = Field(default=0.0, ge=0, le=2, description="0 takes the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1, description="of the probability, likeliest first")
    top_k: int = Field(default=0, ge=0, le=100_000, description="likeliest tokens; 0: all")
    min_p: float = Field(default=0.0, ge=0, le=1, description="of the likeliest one's probability")
    seed: int | None = Field(default=None, ge=-_INT64, lt=_INT64, description="of the draws")
    presence_penalty: float = Field(default=0.0, ge=-2, le=2, description="for answered tokens")
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, description="for each time")
    repetition_penalty: float = Field(default=1.0, gt=0, le=10, description="prompt included")
    min_tokens: int = Field(default=0, ge=0, le=32_768, description="before the answer may end")
    ignore_eos: bool = Field(default=False, description="continue after the end-of-text token")
    stop: Annotated[
        tuple[Stop, ...], BeforeValidator(_listed, json_schema_input_type=Stop | tuple[Stop, ...])
    ] = Field(default=(), max_length=_MAX_STOPS, description="texts that end the answer")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=_MAX_LOGPROBS, description="alternatives; None: no logarithms"
    )
    structured_outputs: StructuredOutputs | None = None

    @classmethod
    def of(cls, request: Sampling) -> Sampling:
        """Return the sampling parameters of a request that inherits them."""
        return cls.model_construct(**{name: getattr(request, name) for name in cls.model_fields})

    def body(self) -> dict[str, str | int | float]:
        """Return the parameters that are not at their defaults; lists and objects as JSON."""
        given = self.model_dump(
            exclude_defaults=True, include=set(Sampling.model_fields), by_alias=True
        )
        return {
            name: json.dumps(value) if INPUT_TYPES[name] == _TEXT else value
            for name, value in given.items()
        }


def _input_type(name: str, annotation: Any) -> str:
    if name == "seed":
        return "TYPE_INT64"
    union = isinstance(annotation, types.UnionType)
    kinds = [one for one in typing.get_args(annotation) if one is not type(None)] if union else []
    return _TRITON_TYPES.get(kinds[0] if len(kinds) == 1 else annotation, _TEXT)


INPUT_TYPES: Final = {
    name: _input_type(name, field.annotation) for name, field in Sampling.model_fields.items()
}
"""Triton's data type of each parameter, by name."""
