"""A profile says what one device SKU is; values cascade and each remembers where it came from.

    profiles/defaults.yaml → the files it extends → profiles/NAME.yaml
        → environment FORGE_PROFILE_<SECTION>__<FIELD> → command line --set section.field=value

`defaults.yaml` holds every field that has a default and is the first link of every cascade.
"""

from __future__ import annotations

import difflib
import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.canonical import Json
from forge.errors import ConfigurationError

__all__ = [
    "Engine",
    "Golden",
    "Hardware",
    "Match",
    "Origin",
    "Power",
    "Profile",
    "Requires",
    "ResolvedProfile",
    "RunnerLabels",
    "Serving",
    "Smoke",
    "Source",
    "Thermal",
    "Thresholds",
    "cascade",
    "json_schema",
    "load",
    "names",
    "parse_override",
    "select",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ENVIRONMENT_PREFIX = "FORGE_PROFILE_"
_MAX_YAML_BYTES = 256 * 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Match(_Section):
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


class Hardware(_Section):
    """What the device is made of."""

    match: Match
    gpu_names: tuple[str, ...] = Field(
        description="names that `match` means, as nvidia-smi prints them: labels hold no pattern"
    )
    memory_mib: int | None = Field(ge=0, description="memory the model can use, as measured, MiB")
    memory_kind: Literal["discrete", "unified", "host"]
    compute_capability: str | None = Field(description="of the GPU, e.g. '11.0'; null: no GPU")
    nvlink: bool


class Power(_Section):
    """Power settings applied before serving."""

    mode: str | None = Field(description="Jetson: a NAME in /etc/nvpmodel.conf")
    limit_w: int | None = Field(gt=0, description="discrete GPU: power limit, W")
    lock_clocks: bool = Field(description="run jetson_clocks, or lock GPU clocks")


class Thermal(_Section):
    """Where the governor begins to lower the load."""

    throttle_c: float = Field(gt=0, lt=150, description="throttles here; less load 5 °C below")
    critical_c: float = Field(gt=0, lt=150, description="only batch_floor from here on, °C")
    batch_floor: int = Field(ge=1, description="never below this many requests at once")


class Engine(_Section):
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


class Probe(_Section):
    """The slowest that a device keeps, on the best of the golden prompts; null: not checked."""

    ttft_ms_max: float | None = Field(gt=0, description="until the first text, ms")
    output_tokens_per_s_min: float | None = Field(gt=0, description="from the first text on")


class Serving(_Section):
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


class Requires(_Section):
    """What the device must have before it downloads anything."""

    driver_min: str | None = Field(description="NVIDIA driver, e.g. '590.44.01'")
    tensorrt: Literal["exact", "none"] = Field(description="exact: the engine's own version")
    jetpack: tuple[str, ...] = Field(description="JetPack releases it may run on; empty: any")
    memory_mib: int = Field(ge=0, description="memory the model needs, MiB")
    free_disk_mib: int = Field(ge=0, description="beyond the bundle's own size, MiB")
    bundle_mib: int = Field(
        ge=1, description="the largest bundle expected, MiB; a Kubernetes volume is made for three"
    )


class Golden(_Section):
    """A prompt whose answer is known."""

    prompt: str = Field(min_length=1, max_length=4096)
    expect: tuple[str, ...] = Field(min_length=1, description="one of these must be in the answer")
    max_tokens: int = Field(ge=1, le=1024)


class Thresholds(_Section):
    """Limits of the smoke gate at the lowest concurrency; null: not checked."""

    ttft_ms_p50: float | None = Field(gt=0)
    inter_token_ms_p50: float | None = Field(gt=0)
    output_tokens_per_s: float | None = Field(gt=0, description="at least")
    error_rate: float = Field(ge=0, le=1, description="at most, at every concurrency")
    peak_rss_mib: float | None = Field(gt=0)


class Smoke(_Section):
    """The benchmark on the target and its gate."""

    prompts: Literal["default"]
    golden: tuple[Golden, ...] = Field(min_length=1)
    concurrency: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(min_length=1)
    requests: int = Field(ge=1, le=10000, description="per concurrency")
    max_tokens: int = Field(ge=2, le=4096, description="per request")
    thresholds: Thresholds
    regression_pct: float = Field(gt=0, description="worse than the last bundle by at most this, %")


class RunnerLabels(_Section):
    """Which runner measures, and compiles where the builder needs the device."""

    labels: tuple[str, ...] = Field(description="labels of a GitHub runner; all must be offered")


class Profile(_Section):
    """One device SKU."""

    name: str = Field(pattern=f"^{_NAME.pattern}$")
    description: str
    unverified: tuple[str, ...] = Field(description="what nobody has seen on hardware yet")
    platform: Literal["linux/amd64", "linux/arm64"]
    hardware: Hardware
    power: Power
    thermal: Thermal
    engine: Engine
    serving: Serving
    requires: Requires
    smoke: Smoke
    runner: RunnerLabels


class Source(enum.IntEnum):
    """Where a value came from; higher wins."""

    DEFAULT = 0
    PARENT = 1
    PROFILE = 2
    ENVIRONMENT = 3
    COMMAND_LINE = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Source of one value: its rank and the file, variable or option that gave it."""

    source: Source
    where: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One link of the cascade: a nested mapping and where it was read."""

    origin: Origin
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ResolvedProfile:
    """A profile and the origin of each of its leaves, keyed by dotted path."""

    profile: Profile
    origins: Mapping[str, Origin]


def cascade(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Fold layers, lowest first, into one nested dict and the origin of every leaf.

    Mappings merge key by key; any other value (lists too) replaces what was there.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for layer in layers:
        for path, value in _leaves(layer.values):
            node = values
            for part in path[:-1]:
                node = node.setdefault(part, {})
                if not isinstance(node, dict):
                    message = f"{layer.origin.where}: {'.'.join(path)} has keys below a plain value"
                    raise ConfigurationError(message)
            node[path[-1]] = value
            origins[".".join(path)] = layer.origin
    return values, origins


def select(profile: Profile, paths: Sequence[str]) -> dict[str, Json]:
    """The named fields only, nested as in the profile: `["engine.precision"]` → a dict.

    A path may name a whole section. Raises ConfigurationError for a path that is no field.
    """
    dumped = profile.model_dump(mode="json")
    result: dict[str, Json] = {}
    for path in paths:
        parts = path.split(".")
        value: Any = dumped
        for part in parts:
            if not isinstance(value, dict) or part not in value:
                raise ConfigurationError(
                    f"A step declares to read {path!r}, which is no profile field"
                )
            value = value[part]
        node: Any = result
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return result


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one profile file: any field may be left to the cascade."""
    schema = Profile.model_json_schema()
    schema["title"] = "Forge profile"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"].pop("name")
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "profile whose values come first; default: defaults",
    }
    for definition in [schema, *schema["$defs"].values()]:
        definition.pop("required", None)
    return schema


def names(directory: Path) -> list[str]:
    """Names of the profiles in a folder, sorted; `defaults` is none. Raises ConfigurationError."""
    if not directory.is_dir():
        message = f"There is no folder of profiles at {directory}"
        raise ConfigurationError(message, hint="run in a Forge project, or give --project DIR")
    files = (path for path in directory.glob("*.yaml") if path.is_file())
    return sorted(path.stem for path in files if path.stem != "defaults")


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`engine.precision=fp8` → (("engine", "precision"), "fp8"); the value is YAML."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        message = f"--set {text!r} is not of the form section.field=value"
        raise ConfigurationError(message, hint="for example: --set engine.max_batch_size=4")
    return tuple(path.split(".")), _parse_yaml(value, f"--set {text}")


def load(
    name: str,
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> ResolvedProfile:
    """Read profile `name` from `directory` through the whole cascade.

    Args:
        name: file name without `.yaml`.
        directory: the project's `profiles/`.
        environment: the process environment; only `FORGE_PROFILE_…` is looked at.
        overrides: `section.field=value` texts of the command line.

    Raises:
        ConfigurationError: no such profile, bad YAML, unknown key, wrong value, a cycle.
    """
    layers = [
        *_file_layers(name, directory),
        *_environment_layers(environment or {}),
        *(
            Layer(Origin(Source.COMMAND_LINE, f"--set {text}"), _nest(*parse_override(text)))
            for text in overrides
        ),
    ]
    values, origins = cascade(layers)
    for path in origins:
        _check_known(path, origins[path])
    try:
        # As JSON, strict: a list may become a tuple, but "8" is no number.
        profile = Profile.model_validate_json(json.dumps({**values, "name": name}, default=str))
    except ValidationError as error:
        raise _explain(name, error, origins) from None
    return ResolvedProfile(profile, origins)


def _file_layers(name: str, directory: Path) -> list[Layer]:
    chain: list[tuple[str, dict[str, Any]]] = []
    current: str | None = name
    while current is not None:
        if current in [link for link, _ in chain]:
            path = " → ".join([*(link for link, _ in chain), current])
            message = f"Profile {name!r} extends itself"
            raise ConfigurationError(message, why=path, hint=f"edit profiles/{chain[-1][0]}.yaml")
        values = _read(current, directory, chain[-1][0] if chain else None)
        extends = values.pop("extends", None if current == "defaults" else "defaults")
        chain.append((current, values))
        current = None if extends is None else str(extends)
    return [
        Layer(Origin(_rank(link, name), f"{directory.name}/{link}.yaml"), values)
        for link, values in reversed(chain)
    ]


def _rank(link: str, name: str) -> Source:
    if link == name:
        return Source.PROFILE
    return Source.DEFAULT if link == "defaults" else Source.PARENT


def _read(name: str, directory: Path, child: str | None) -> dict[str, Any]:
    path = directory / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = [*names(directory), "defaults"]
        near = difflib.get_close_matches(str(name), known, n=1)
        why = f"profiles/{child}.yaml extends it" if child else f"there is no {path}"
        hint = f"did you mean {near[0]!r}?" if near else f"known profiles: {', '.join(known)}"
        raise ConfigurationError(f"No profile {name!r}", why=why, hint=hint)
    if path.stat().st_size > _MAX_YAML_BYTES:
        raise ConfigurationError(f"{path} is larger than {_MAX_YAML_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read", why=str(error)) from None
    values = _parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} does not hold a YAML mapping")
    return values


def _parse_yaml(text: str, where: str) -> Any:
    import yaml

    from forge import yaml_loader

    try:
        return yaml_loader.load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is not valid YAML", why=str(error)) from None


def _environment_layers(environment: Mapping[str, str]) -> Iterator[Layer]:
    for variable in sorted(environment):
        if not variable.startswith(_ENVIRONMENT_PREFIX):
            continue
        path = tuple(variable.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__"))
        value = _parse_yaml(environment[variable], variable)
        yield Layer(Origin(Source.ENVIRONMENT, variable), _nest(path, value))


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def _leaves(
    values: Mapping[str, Any], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        path = (*prefix, str(key))
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _check_known(path: str, origin: Origin) -> None:
    model: Any = Profile
    walked: list[str] = []
    for part in path.split("."):
        fields = getattr(model, "model_fields", None)
        if fields is None:
            return  # below a leaf: pydantic says what is wrong with the value
        if part not in fields or part == "name":
            legal = [name for name in fields if name != "name"]  # that is the file's
            near = difflib.get_close_matches(part, legal, n=1)
            place = ".".join([*walked, part])
            hint = (
                f"did you mean {'.'.join([*walked, near[0]])!r}?"
                if near
                else f"known keys here: {', '.join(legal)}"
            )
            message = f"Unknown key {place!r} in {origin.where}"
            raise ConfigurationError(message, hint=hint)
        walked.append(part)
        model = fields[part].annotation


def _explain(
    name: str, error: ValidationError, origins: Mapping[str, Origin]
) -> ConfigurationError:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
        origin = origins.get(path)
        where = f" (from {origin.where})" if origin else ""
        lines.append(f"{path}{where}: {item['msg']}")
    return ConfigurationError(
        f"Profile {name!r} is not valid",
        why="; ".join(lines),
        hint="correct it there; docs/profiles.md says where values come from",
    )
