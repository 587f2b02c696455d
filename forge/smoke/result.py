"""`result.json` of the smoke benchmark and `gate.json` of its gate."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.bundle import SmokeSummary
from forge.errors import SmokeGateError
from forge.profiles import Golden

__all__ = [
    "RESULT_FILE",
    "Concurrency",
    "GoldenAnswer",
    "Machine",
    "Percentiles",
    "Result",
    "ServerUsage",
    "SmokeSettings",
    "summary",
]

RESULT_FILE = "result.json"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Percentiles(_Document):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float


class Concurrency(_Document):
    """What was measured with this many requests at once."""

    concurrency: int = Field(ge=1)
    requests: int = Field(ge=0)
    errors: int = Field(ge=0)
    error_rate: float = Field(ge=0, le=1)
    error_examples: tuple[str, ...]
    seconds: float = Field(ge=0)
    output_tokens: int = Field(ge=0)
    output_tokens_per_s: float = Field(ge=0)
    ttft_ms: Percentiles | None = Field(description="null: no request gave text")
    inter_token_ms: Percentiles | None = Field(description="null: no request gave two pieces")


class Machine(_Document):
    """On what it was measured. Two results compare only if their machines are equal."""

    cpu: str
    cores: int
    memory_mib: int
    gpu: str | None
    driver: str | None
    power_mode: str | None = Field(description="Jetson: nvpmodel's, in force while measuring")
    power_limit_w: float | None = Field(default=None, description="discrete GPU: in force, W")

    def describe(self) -> str:
        """One line; memory in whole GiB, since kernels of one machine differ in some MiB."""
        parts = [f"{self.cpu}, {self.cores} cores, {round(self.memory_mib / 1024)} GiB"]
        if self.gpu:
            parts.append(f"{self.gpu}, driver {self.driver}")
        if self.power_mode:
            parts.append(f"power mode {self.power_mode}")
        if self.power_limit_w:
            parts.append(f"power limit {self.power_limit_w:g} W")
        return "; ".join(parts)


class GoldenAnswer(_Document):
    """A golden prompt and what the model said."""

    prompt: str
    expect: tuple[str, ...]
    got: str


class ServerUsage(_Document):
    """What the server used, from its start to the end of the last request."""

    ready_s: float = Field(description="from start until the model was ready")
    cpu_s: float
    peak_rss_mib: float = Field(description="sum over its processes")


class SmokeSettings(BaseModel):
    """The fields of a profile's `smoke` that the benchmark reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompts: Literal["default"]
    golden: tuple[Golden, ...]
    concurrency: tuple[int, ...] = Field(min_length=1)
    requests: int = Field(ge=1)
    max_tokens: int = Field(ge=2)


class Result(_Document):
    """Everything the benchmark saw."""

    schema_version: Literal[1] = 1
    created: str = Field(description="RFC 3339, UTC")
    machine: Machine
    settings: SmokeSettings
    model: str
    triton: str
    runtime: dict[str, str]
    server: ServerUsage
    golden: tuple[GoldenAnswer, ...]
    measured: tuple[Concurrency, ...] = Field(min_length=1)

    @property
    def lowest(self) -> Concurrency:
        """What was measured at the lowest concurrency; the gate and the manifest use it."""
        return min(self.measured, key=lambda item: item.concurrency)


def summary(result: Result) -> SmokeSummary:
    """What a bundle's manifest says of a result. Raises SmokeGateError if nothing was answered."""
    lowest = result.lowest
    if lowest.ttft_ms is None or lowest.inter_token_ms is None:
        message = "The smoke benchmark measured nothing at its lowest concurrency"
        raise SmokeGateError(message, why="; ".join(lowest.error_examples) or "no text came")
    return SmokeSummary(
        concurrency=lowest.concurrency,
        ttft_ms_p50=lowest.ttft_ms.p50,
        inter_token_ms_p50=lowest.inter_token_ms.p50,
        output_tokens_per_s=lowest.output_tokens_per_s,
        error_rate=lowest.error_rate,
        peak_rss_mib=result.server.peak_rss_mib,
        machine=result.machine.describe(),
    )
