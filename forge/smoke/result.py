"""`result.json` of the smoke benchmark: schema 2; schema 1 is read as a result of one run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from forge.bundle import Digest, SmokeSummary
from forge.energy.power_reading import PowerSource
from forge.errors import SmokeGateError
from forge.profiles import GoldenSection, SloSection

__all__ = [
    "RESULT_FILE",
    "Baseline",
    "Conditions",
    "Estimate",
    "GoldenAnswer",
    "Level",
    "Machine",
    "Pair",
    "PairSample",
    "RequestStatistics",
    "Result",
    "RunSample",
    "ServerUsage",
    "SideBySide",
    "Slo",
    "SmokeSettings",
    "figures",
    "interval",
    "summary",
]

RESULT_FILE = "result.json"


class _Document(BaseModel):
    # A median of values with one that is not a number is any of them.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Slo(SloSection):
    """The service level objective that goodput counts by."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=False)

    @property
    def empty(self) -> bool:
        """Whether it sets no limit, so that there is no goodput."""
        return self.ttft_ms is None and self.itl_ms is None


class Estimate(_Document):
    """The mean of one figure over the runs, with its 95 % confidence interval (Student's t)."""

    mean: float
    ci_low: float | None = Field(default=None, description="null: one run, which has no interval")
    ci_high: float | None = Field(default=None, description="null: one run, which has no interval")


class RequestStatistics(_Document):
    """Statistics of a figure that each request has; each one is its mean over the runs."""

    avg: Estimate | None = Field(default=None, description="null: schema 1, which had percentiles")
    p50: Estimate
    p90: Estimate
    p99: Estimate


class RunSample(_Document):
    """The figures of one run, from which intervals are computed and two builds are compared."""

    benchmark_duration_s: float = Field(gt=0)
    output_tokens: int = Field(ge=0)
    time_to_first_token_ms: float = Field(description="mean over the requests, ms")
    inter_token_latency_ms: float | None = Field(description="mean over the requests, ms")
    output_token_throughput: float = Field(description="tokens/s")
    request_throughput: float = Field(description="requests/s")
    goodput: float | None = Field(description="requests/s within smoke.slo; null: no SLO")
    processor_ms_per_token: float | None = Field(
        description="processor time of the server for a token, ms; null: not known"
    )
    wait_ms_per_token: float | None = Field(
        description="time that the server's threads waited for a processor, ms for a token"
    )
    joules_per_token: float | None = Field(description="J for a token; null: not known")
    joules_per_request: float | None = Field(
        default=None, description="J for a valid request; null: not known"
    )
    energy_j: float | None = Field(default=None, description="J of the run; null: not known")
    average_power_w: float | None = Field(
        default=None, description="energy of the run ÷ its time, W; null: not known"
    )


class PairSample(_Document):
    """One request of a pair."""

    time_to_first_token_ms: float
    inter_token_latency_ms: float
    request_latency_per_token_ms: float = Field(description="request latency ÷ tokens, ms")
    processor_ms_per_token: float | None = Field(description="null: not known")


class Pair(_Document):
    """The same request to this build and to the last bundle's, one right after the other."""

    now: PairSample
    before: PairSample


class SideBySide(_Document):
    """The last published bundle, served on this machine at the same time and asked in turn."""

    pairs: tuple[Pair, ...]


class Level(_Document):
    """Metrics at one concurrency, times in ms. The names are AIPerf's: `forge.smoke.metrics`."""

    concurrency: int = Field(ge=1)
    request_count: int = Field(ge=0, description="valid requests of all runs")
    error_request_count: int = Field(ge=0)
    error_rate: float = Field(ge=0, le=1)
    error_examples: tuple[str, ...]
    benchmark_duration_s: float = Field(ge=0, description="sum over the runs, s")
    output_tokens: int = Field(ge=0)
    time_to_first_token: RequestStatistics | None = Field(
        description="null: no request returned text"
    )
    inter_token_latency: RequestStatistics | None = Field(
        description="null: no request had two tokens"
    )
    inter_chunk_latency: RequestStatistics | None = Field(
        description="null: no request had two chunks"
    )
    request_latency: RequestStatistics | None
    output_token_throughput_per_user: RequestStatistics | None
    output_token_throughput: Estimate | None = Field(description="tokens/s")
    request_throughput: Estimate | None = Field(description="requests/s")
    goodput: Estimate | None = Field(description="requests/s within smoke.slo; null: no SLO")
    processor_time_per_token: Estimate | None = Field(
        description="processor time of the server for a token, ms; null: not known"
    )
    energy_per_output_token: Estimate | None = Field(description="J; null: not known")
    energy_per_request: Estimate | None = Field(default=None, description="J; null: not known")
    total_energy: Estimate | None = Field(default=None, description="J of a run; null: not known")
    average_power: Estimate | None = Field(default=None, description="W; null: not known")
    runs: tuple[RunSample, ...]


class Machine(_Document):
    """The machine of a result. Two results are comparable only if their machines are equal."""

    cpu: str
    cores: int
    memory_mib: int
    gpu: str | None
    driver: str | None
    power_mode: str | None = Field(description="Jetson: nvpmodel mode during the benchmark")
    power_limit_w: float | None = Field(
        default=None, description="discrete GPU: power limit during the benchmark, W"
    )

    def describe(self) -> str:
        """Return one line; memory in whole GiB, since MemTotal differs between kernels."""
        parts = [f"{self.cpu}, {self.cores} cores, {round(self.memory_mib / 1024)} GiB"]
        if self.gpu:
            parts.append(f"{self.gpu}, driver {self.driver}")
        if self.power_mode:
            parts.append(f"power mode {self.power_mode}")
        if self.power_limit_w:
            parts.append(f"power limit {self.power_limit_w:g} W")
        return "; ".join(parts)


class Conditions(_Document):
    """What held on the machine during the benchmark."""

    throttled: bool | None = Field(
        default=None, description="whether heat or power slowed the clocks; null: not known"
    )
    throttle_reasons: tuple[str, ...] = Field(
        default=(),
        description="nvidia-smi's clocks_event_reasons, or the kernel's devices and counters",
    )
    energy_source: PowerSource | None = Field(default=None, description="null: no energy is known")
    energy_of: str = Field(
        default="",
        description="whose energy: a GPU's name, or the rails or packages that are added",
    )
    energy_problem: str = Field(default="", description="why no energy is known")


class GoldenAnswer(_Document):
    """A golden prompt and the response of the model."""

    prompt: str
    expect: tuple[str, ...]
    got: str


class ServerUsage(_Document):
    """Resources of the server from its start to the end of the last request."""

    ready_s: float = Field(description="time from start until the model was ready, s")
    cpu_s: float
    peak_rss_mib: float = Field(description="sum over its processes")


class SmokeSettings(BaseModel):
    """The fields of `smoke` in a profile that the benchmark reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompts: Literal["default"]
    golden: tuple[GoldenSection, ...]
    concurrency: tuple[int, ...] = Field(min_length=1)
    requests: int = Field(ge=1)
    max_tokens: int = Field(ge=2)
    runs: int = Field(default=1, ge=1)  # schema 1 had one run
    slo: Slo = Slo(ttft_ms=None, itl_ms=None)
    regression_pct: float = Field(default=10, gt=0, description="decides how many pairs are asked")


class _Percentiles(_Document):
    p50: float
    p90: float
    p99: float


class _LevelOfSchema1(_Document):
    """Schema 1; its `inter_token_ms` was the gap between chunks: AIPerf's inter-chunk latency."""

    concurrency: int
    requests: int
    errors: int
    error_rate: float
    error_examples: tuple[str, ...]
    seconds: float
    output_tokens: int
    output_tokens_per_s: float
    ttft_ms: _Percentiles | None
    inter_token_ms: _Percentiles | None

    def level(self) -> Level:
        return Level(
            concurrency=self.concurrency,
            request_count=self.requests - self.errors,
            error_request_count=self.errors,
            error_rate=self.error_rate,
            error_examples=self.error_examples,
            benchmark_duration_s=self.seconds,
            output_tokens=self.output_tokens,
            time_to_first_token=_distribution(self.ttft_ms),
            inter_token_latency=None,
            inter_chunk_latency=_distribution(self.inter_token_ms),
            request_latency=None,
            output_token_throughput_per_user=None,
            output_token_throughput=Estimate(mean=self.output_tokens_per_s),
            request_throughput=None,
            goodput=None,
            processor_time_per_token=None,
            energy_per_output_token=None,
            runs=(),
        )


def _distribution(found: _Percentiles | None) -> RequestStatistics | None:
    if found is None:
        return None
    p50, p90, p99 = (Estimate(mean=value) for value in (found.p50, found.p90, found.p99))
    return RequestStatistics(p50=p50, p90=p90, p99=p99)


def _as_level(found: Level | _LevelOfSchema1) -> Level:
    return found if isinstance(found, Level) else found.level()


class Result(_Document):
    """Result of the benchmark."""

    schema_version: Annotated[Literal[1, 2], AfterValidator(lambda _: 2)] = 2
    created: str = Field(description="RFC 3339, UTC")
    machine: Machine
    conditions: Conditions = Conditions()
    settings: SmokeSettings
    model: str
    triton: str
    runtime: dict[str, str]
    server: ServerUsage
    golden: tuple[GoldenAnswer, ...]
    side_by_side: SideBySide | None = Field(
        default=None, description="null: no last bundle, or it was not served here"
    )
    measured: tuple[Annotated[Level | _LevelOfSchema1, AfterValidator(_as_level)], ...] = Field(
        min_length=1
    )

    @property
    def levels(self) -> tuple[Level, ...]:
        """Return the metrics of every concurrency, ascending."""
        return tuple(sorted(map(_as_level, self.measured), key=lambda item: item.concurrency))

    @property
    def lowest(self) -> Level:
        """Return the metrics at the lowest concurrency, which the gate and the manifest use."""
        return self.levels[0]


class Baseline(_Document):
    """The last published bundle, which the gate compares a new build with."""

    version: str | None = Field(default=None, description="null: read from a file")
    tree: Digest | None = Field(default=None, description="digest of its model repository")
    summary: SmokeSummary
    level: Level | None = Field(
        default=None,
        description="the runs at the summary's concurrency; null: published without them",
    )


def interval(figure: Estimate | None, unit: str) -> str:
    """Return a figure with half of its interval, `18.1 ± 0.4 ms`; `—` if it is not known."""
    if figure is None:
        return "—"
    if figure.ci_low is None or figure.ci_high is None:
        return f"{figure.mean:.4g} {unit}"
    return f"{figure.mean:.4g} ± {(figure.ci_high - figure.ci_low) / 2:.2g} {unit}"


def figures(level: Level) -> str:
    """Return the main figures of one concurrency with their intervals, in one line."""
    first, itl = level.time_to_first_token, level.inter_token_latency
    return (
        f"TTFT {interval(first.avg if first else None, 'ms')},"
        f" ITL {interval(itl.avg if itl else None, 'ms')},"
        f" {interval(level.output_token_throughput, 'tokens/s')}"
    )


def summary(result: Result) -> SmokeSummary:
    """Return the summary for a manifest. Raises SmokeGateError if no request was answered."""
    lowest = result.lowest
    gaps = lowest.inter_token_latency or lowest.inter_chunk_latency  # schema 1 has gaps only
    first, rate = lowest.time_to_first_token, lowest.output_token_throughput
    if first is None or gaps is None or rate is None:
        message = "No request succeeded at the lowest concurrency of the smoke benchmark"
        raise SmokeGateError(
            message, why="; ".join(lowest.error_examples) or "no response had text"
        )
    return SmokeSummary(
        concurrency=lowest.concurrency,
        ttft_ms_p50=first.p50.mean,
        inter_token_ms_p50=gaps.p50.mean,
        output_tokens_per_s=rate.mean,
        error_rate=lowest.error_rate,
        peak_rss_mib=result.server.peak_rss_mib,
        machine=result.machine.describe(),
    )
