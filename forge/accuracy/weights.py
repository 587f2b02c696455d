"""`weights.json`: what `forge.builders.tools.openvino_weights` found comparing the weights.

A small divergence on a text does not show noise in few of the weights, so each value of the engine
is held against what its quantiser may round of the checkpoint's.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["WEIGHTS_FILE", "WeightsComparison", "WorstWeight"]

WEIGHTS_FILE: Final = "weights.json"


class WorstWeight(BaseModel):
    """The tensor with the value that differs most."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensor: str
    of_allowed: Annotated[float | None, Field(allow_inf_nan=False)] = Field(
        description="difference by what is allowed; null: not a finite number"
    )


class WeightsComparison(BaseModel):
    """The weights of an engine, compared with its checkpoint's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    tensors: int = Field(ge=0, description="of the checkpoint")
    compared: int = Field(ge=0, description="of them, found in the engine")
    worst: WorstWeight
    problems: tuple[str, ...] = Field(description="the first of them, one sentence each")
    problem_count: int = Field(ge=0)
