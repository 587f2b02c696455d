"""The sections of a profile: every field with its unit, its limits and what it means."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Engine",
    "Golden",
    "Hardware",
    "Match",
    "Power",
    "Probe",
    "Requires",
    "RunnerLabels",
    "Section",
    "Serving",
    "Smoke",
    "Thermal",
    "Thresholds",
]


class Section(BaseModel):
    """Part of a profile: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Match(Section):
    """Facts that recognise the device; every rule that is given must hold.

    An empty match recognises nothing: such a profile is only chosen by name or as fallback.
    """

    gpu_name: str | None = Field(None, description="glob on nvidia-smi's name")
    compute_capability: str | None = Field(None, description="e.g. '12.0'")
    device_tree_model: str | None = Field(None, description="glob on /proc/device-tree/model")
    device_tree_compatible: str | None = Field(None, description="one entry of .../compatible")
    tnspec: str | None = Field(None, description="glob on TNSPEC of /etc/nv_boot_control.conf")
    memory_mib_min: int | None = Field(None, ge=0, description="least MemTotal or GPU memory, MiB")
    memory_mib_max: int | None = Field(None, ge=0, description="most MemTotal or GPU memory, MiB")


class Hardware(Section):
    """What the device is made of."""

    match: Match
    gpu_names: tuple[str, ...] = Field(
        description="names that `match` means, as nvidia-smi prints them: labels hold no pattern"
    )
    memory_mib: int | None = Field(ge=0, description="memory the model can use, as measured, MiB")
    memory_kind: Literal["discrete", "unified", "host"]
    compute_capability: str | None = Field(description="of the GPU, e.g. '11.0'; null: no GPU")
    nvlink: bool


class Power(Section):
    """Power settings applied before serving."""

    mode: str | None = Field(description="Jetson: a NAME in /etc/nvpmodel.conf")
    limit_w: int | None = Field(gt=0, description="discrete GPU: power limit, W")
    lock_clocks: bool = Field(description="run jetson_clocks, or lock GPU clocks")


class Thermal(Section):
    """Where the governor begins to lower the load."""

    throttle_c: float = Field(gt=0, lt=150, description="throttles here; less load 5 °C below")
    critical_c: float = Field(gt=0, lt=150, description="only batch_floor from here on, °C")
    batch_floor: int = Field(ge=1, description="never below this many requests at once")


class Engine(Section):
    """How the engine is compiled. Every field here is part of the engine's key."""

    builder: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="see docs/builders.md")
    precision: Literal["as-is", "fp16", "bf16", "fp8", "int8", "int4", "nvfp4"]
    max_batch_size: int = Field(ge=1, le=1024, description="sequences decoded together")
    max_input_len: int = Field(ge=1, description="longest prompt, tokens")
    max_seq_len: int = Field(ge=2, description="prompt and answer together, tokens")
    build_on: Literal["runner", "device"] = Field(description="where the engine is compiled")
    mode: Literal["engine", "llmapi"] = Field(
        description="tensorrt-llm: a compiled engine, or a checkpoint its LLM API loads"
    )


class Probe(Section):
    """The slowest that a device keeps, on the best of the golden prompts; null: not checked."""

    ttft_ms_max: float | None = Field(gt=0, description="until the first text, ms")
    output_tokens_per_s_min: float | None = Field(gt=0, description="from the first text on")


class Serving(Section):
    """How Triton serves the engine."""

    model: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="name under Triton")
    server: Literal["environment", "container"]
    environment: str | None = Field(description="folder of dockerfiles/ whose lock holds Triton")
    image: str | None = Field(description="container image that holds Triton")
    kv_cache_fraction: float = Field(gt=0, le=1, description="of the free memory")
    kv_cache_mib: int | None = Field(gt=0, description="fixed size instead of a fraction, MiB")
    default_max_tokens: int = Field(ge=1, description="when a request names no limit")
    activation: Literal["swap", "blue-green"] = Field(
        description="stop the old, start the new; or start it beside, which needs memory for both"
    )
    start_timeout_s: float = Field(gt=0, le=7200, description="until the model must be ready, s")
    probe: Probe


class Requires(Section):
    """What the device must have before it downloads anything."""

    driver_min: str | None = Field(description="NVIDIA driver, e.g. '590.44.01'")
    tensorrt: Literal["exact", "none"] = Field(description="exact: the engine's own version")
    jetpack: tuple[str, ...] = Field(description="JetPack releases it may run on; empty: any")
    memory_mib: int = Field(ge=0, description="memory the model needs, MiB")
    free_disk_mib: int = Field(ge=0, description="beyond the bundle's own size, MiB")
    bundle_mib: int = Field(
        ge=1, description="the largest bundle expected, MiB; a Kubernetes volume is made for three"
    )


class Golden(Section):
    """A prompt whose answer is known."""

    prompt: str = Field(min_length=1, max_length=4096)
    expect: tuple[str, ...] = Field(min_length=1, description="one of these must be in the answer")
    max_tokens: int = Field(ge=1, le=1024)


class Thresholds(Section):
    """Limits of the smoke gate at the lowest concurrency; null: not checked."""

    ttft_ms_p50: float | None = Field(gt=0)
    inter_token_ms_p50: float | None = Field(gt=0)
    output_tokens_per_s: float | None = Field(gt=0, description="at least")
    error_rate: float = Field(ge=0, le=1, description="at most, at every concurrency")
    peak_rss_mib: float | None = Field(gt=0)


class Smoke(Section):
    """The benchmark on the target and its gate."""

    prompts: Literal["default"]
    golden: tuple[Golden, ...] = Field(min_length=1)
    concurrency: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(min_length=1)
    requests: int = Field(ge=1, le=10000, description="per concurrency")
    max_tokens: int = Field(ge=2, le=4096, description="per request")
    thresholds: Thresholds
    regression_pct: float = Field(gt=0, description="worse than the last bundle by at most this, %")


class RunnerLabels(Section):
    """Which runner measures, and compiles where the builder needs the device."""

    labels: tuple[str, ...] = Field(description="labels of a GitHub runner; all must be offered")
