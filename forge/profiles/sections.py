"""The sections of a profile: every field with its unit, limits and meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = [
    "EngineSection",
    "GoldenSection",
    "HardwareSection",
    "MatchSection",
    "PowerSection",
    "ProbeSection",
    "RequiresSection",
    "RunnerLabels",
    "RuntimeSection",
    "Section",
    "ServingSection",
    "SloSection",
    "SmokeSection",
    "ThermalSection",
    "ThresholdsSection",
]


class Section(BaseModel):
    """Base of the sections: unknown keys and type conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MatchSection(Section):
    """Rules that identify the device; every rule that is set must match.

    An empty section matches no device: such a profile is chosen only by name or as the fallback.
    """

    gpu_name: str | None = Field(None, description="glob on nvidia-smi's name")
    compute_capability: str | None = Field(None, description="e.g. '12.0'")
    device_tree_model: str | None = Field(None, description="glob on /proc/device-tree/model")
    device_tree_compatible: str | None = Field(None, description="one entry of .../compatible")
    tnspec: str | None = Field(None, description="glob on TNSPEC of /etc/nv_boot_control.conf")
    memory_mib_min: int | None = Field(
        None, ge=0, description="minimum of MemTotal or GPU memory, MiB"
    )
    memory_mib_max: int | None = Field(
        None, ge=0, description="maximum of MemTotal or GPU memory, MiB"
    )


class HardwareSection(Section):
    """Hardware of the device."""

    match: MatchSection
    gpu_names: tuple[str, ...] = Field(
        description="exact names in nvidia-smi, for Kubernetes labels, which allow no pattern"
    )
    memory_mib: int | None = Field(ge=0, description="measured memory available to the model, MiB")
    memory_kind: Literal["discrete", "unified", "host"]
    compute_capability: str | None = Field(description="of the GPU, e.g. '11.0'; null: no GPU")
    nvlink: bool


class PowerSection(Section):
    """Power settings applied before serving."""

    mode: str | None = Field(description="Jetson: a NAME in /etc/nvpmodel.conf")
    limit_w: int | None = Field(gt=0, description="discrete GPU: power limit, W")
    lock_clocks: bool = Field(description="run jetson_clocks, or lock GPU clocks")


class ThermalSection(Section):
    """Temperatures at which the governor reduces load.

    The offsets count where the hardware states its own temperatures: a passive and a critical trip
    point of the kernel, a GPU's target and slowdown temperature. Elsewhere, and without offsets,
    throttle_c and critical_c count.
    """

    throttle_c: float = Field(gt=0, lt=150, description="temperature at which it throttles, °C")
    critical_c: float = Field(
        gt=0, lt=150, description="temperature from which only batch_floor requests are served, °C"
    )
    throttle_offset_c: float | None = Field(
        default=None,
        ge=-60,
        le=0,
        description="added to the hardware's throttling temperature, K; null: throttle_c counts",
    )
    critical_offset_c: float | None = Field(
        default=None,
        ge=-60,
        le=0,
        description="added to the hardware's critical temperature, K; null: critical_c counts",
    )
    batch_floor: int = Field(ge=1, description="minimum number of concurrent requests")

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out offsets that are null: manifests without them keep their identity."""
        left_out = {"throttle_offset_c", "critical_offset_c"}
        found: dict[str, Any] = serialize(self)
        return {
            name: value
            for name, value in found.items()
            if value is not None or name not in left_out
        }


class EngineSection(Section):
    """Compilation of the engine. Every field is part of the engine's key."""

    builder: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,30}$", description="see docs/reference/builders.md"
    )
    precision: Literal["as-is", "fp32", "fp16", "bf16", "fp8", "int8", "int4", "nvfp4"]
    max_batch_size: int = Field(ge=1, le=1024, description="sequences decoded together")
    max_input_len: int = Field(ge=1, description="longest prompt, tokens")
    max_seq_len: int = Field(ge=2, description="prompt and response together, tokens")
    build_on: Literal["runner", "device"] = Field(description="where the engine is compiled")
    mode: Literal["engine", "llmapi"] = Field(
        description="tensorrt-llm: a checkpoint for its LLM API, or an engine (1.2.1 only, removed"
        " upstream)"
    )


class ProbeSection(Section):
    """Minimum speed of a release on a device, for the fastest golden prompt; null: not checked."""

    ttft_ms_max: float | None = Field(gt=0, description="time to the first text, ms")
    output_tokens_per_s_min: float | None = Field(
        gt=0, description="rate after the first text, tokens/s"
    )


class RuntimeSection(Section):
    """Parameters of the model's runtime, which it reads when it starts: part of `serving`."""

    kv_cache_fraction: float = Field(gt=0, le=1, description="fraction of the free memory")
    kv_cache_mib: int | None = Field(gt=0, description="fixed size instead of a fraction, MiB")
    max_num_batched_tokens: int | None = Field(
        ge=1, description="tokens computed in one step; null: the runtime's default"
    )


class ServingSection(RuntimeSection):
    """Serving of the engine by Triton."""

    model: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="name of the model in Triton")
    server: Literal["environment", "container"]
    environment: str | None = Field(
        description="folder of dockerfiles/ whose lock file contains Triton"
    )
    packages: Literal["bundle", "index"] = Field(
        "bundle",
        description="where a device gets the packages of the environment: bundle: their wheels are"
        " part of the bundle, and no package index is needed; index: of its package index",
    )
    image: str | None = Field(description="container image that contains Triton")
    default_max_tokens: int = Field(ge=1, description="limit for requests without max_tokens")
    activation: Literal["swap", "blue-green"] = Field(
        description="swap: stop the old server first; blue-green: needs memory for both servers"
    )
    start_timeout_s: float = Field(
        gt=0, le=7200, description="time limit until the model is ready, s"
    )
    probe: ProbeSection


class RequiresSection(Section):
    """Requirements of the device, checked before any download."""

    driver_min: str | None = Field(description="NVIDIA driver, e.g. '590.44.01'")
    tensorrt: Literal["exact", "none"] = Field(description="exact: the engine's own version")
    jetpack: tuple[str, ...] = Field(description="JetPack releases it may run on; empty: any")
    memory_mib: int = Field(ge=0, description="memory that the model requires, MiB")
    free_disk_mib: int = Field(ge=0, description="free disk space in addition to the bundle, MiB")
    bundle_mib: int = Field(
        ge=1, description="expected maximum size of a bundle, MiB; a Kubernetes volume holds three"
    )


class GoldenSection(Section):
    """A prompt with a known response."""

    prompt: str = Field(min_length=1, max_length=4096)
    expect: tuple[str, ...] = Field(
        min_length=1, description="texts, one of which the response must contain"
    )
    max_tokens: int = Field(ge=1, le=1024)


class SloSection(Section):
    """Service level objective, which goodput counts by; null: that figure has no limit."""

    ttft_ms: float | None = Field(None, gt=0, description="time to the first token, at most, ms")
    itl_ms: float | None = Field(
        None, gt=0, description="inter-token latency of a request, at most, ms"
    )


class ThresholdsSection(Section):
    """Thresholds of the smoke gate at the lowest concurrency; null: not checked."""

    ttft_ms_p50: float | None = Field(gt=0)
    inter_token_ms_p50: float | None = Field(gt=0)
    output_tokens_per_s: float | None = Field(gt=0, description="at least")
    error_rate: float = Field(ge=0, le=1, description="at most, at every concurrency")
    peak_rss_mib: float | None = Field(gt=0)


class SmokeSection(Section):
    """The smoke benchmark on the target and its gate."""

    prompts: Literal["default"]
    golden: tuple[GoldenSection, ...] = Field(min_length=1)
    concurrency: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        min_length=1, description="requests in parallel; engine.max_batch_size is always added"
    )
    requests: int = Field(ge=1, le=10000, description="per run")
    runs: int = Field(5, ge=5, le=100, description="per concurrency; intervals are over runs")
    max_tokens: int = Field(ge=2, le=4096, description="per request")
    slo: SloSection = Field(SloSection(ttft_ms=None, itl_ms=None), description="of goodput")
    thresholds: ThresholdsSection
    regression_pct: float = Field(
        gt=0, description="regression from the last bundle that is refused, %"
    )


class AccuracySection(Section):
    """Limits of the accuracy gate for every section of a receipt; null: those of the precision."""

    kl_mean: float | None = Field(
        gt=0, description="mean Kullback-Leibler divergence from the checkpoint, nats, at most"
    )
    same_top: float | None = Field(
        gt=0, le=1, description="share of positions with the same most likely token, at least"
    )
    perplexity_ratio: float | None = Field(
        ge=1, description="perplexity by that of the checkpoint, at most"
    )
    regression_pct: float = Field(
        gt=0, description="accepted increase of kl_mean from the last bundle, %"
    )


class RunnerLabels(Section):
    """The runner that benchmarks and, if the builder requires the device, compiles."""

    labels: tuple[str, ...] = Field(description="required labels of a GitHub runner")
