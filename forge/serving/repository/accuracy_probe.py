"""`accuracy.json` of a rendered tree: tokens, and how likely each is by the engine itself.

A device lets its model score the same tokens before it commits a bundle. The file is not part of
serving.json, whose fields devices of version 0.1 know exactly.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ACCURACY_FILE", "PROBE_FILE", "SCORED_BUILDERS", "AccuracyProbe"]

ACCURACY_FILE: Final = "accuracy.json"
PROBE_FILE: Final = "probe.json"  # the same in the output of the step that measures it
# Builders whose Triton model scores tokens (input_format `tokens`). TensorRT-LLM's and Edge-LLM's
# runtimes are not asked for it: docs/reference/serving.md.
SCORED_BUILDERS: Final = frozenset({"onnx-runtime", "openvino", "tensorrt-rtx"})


class AccuracyProbe(BaseModel):
    """Tokens, and the logarithm of the probability that the engine gave each but the first."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: Literal[1] = 1
    tokens: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=2, max_length=4096)
    logprobs: tuple[Annotated[float, Field(allow_inf_nan=False, le=0.001)], ...]

    @model_validator(mode="after")
    def _one_for_each(self) -> AccuracyProbe:
        if len(self.logprobs) != len(self.tokens) - 1:
            raise ValueError("logprobs has one value for each token but the first")
        return self
