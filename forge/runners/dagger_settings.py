"""Where Dagger's engines are and what their containers start from.

    # forge.yaml in the project's folder; all of it may be left out
    runners:
      dagger:
        engines:                                  # one engine a platform
          linux/amd64: unix:///run/dagger/engine.sock
          linux/arm64: tcp://thor.example:8080
        base: docker.io/library/python:{python}-slim-bookworm
        labels: [gpu-sm120]                       # what these engines offer beside the platform

FORGE_DAGGER_ENGINES (a JSON object), FORGE_DAGGER_BASE and FORGE_RUNNER_LABELS win over the file.
One address may stand for two platforms: such an engine emulates the foreign one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from forge.errors import ConfigurationError

__all__ = ["FILE", "DaggerSettings", "load"]

FILE: Final = "forge.yaml"
DEFAULT_BASE: Final = "docker.io/library/python:{python}-slim-bookworm"
RUNNER_HOST: Final = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
_MAX_BYTES: Final = 64 * 1024

_Platform = Annotated[str, StringConstraints(pattern=r"^linux/[a-z0-9]+$")]
_Address = Annotated[str, StringConstraints(pattern=r"^(unix:///|tcp://[^/]+:\d+$)")]
_Engines = dict[_Platform, _Address]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Dagger(_Strict):
    engines: _Engines = {}
    base: str = DEFAULT_BASE
    labels: list[str] = []


class _Runners(_Strict):
    dagger: _Dagger = _Dagger()


class _File(_Strict):
    runners: _Runners = _Runners()


@dataclass(frozen=True, slots=True)
class DaggerSettings:
    """How the dagger runner reaches engines.

    Attributes:
        engines: address by platform; None where Dagger's own default is meant (it starts an engine
            by docker or podman).
        base: image reference of a Python, `{python}` stands for the version a step asks for.
        labels: what the engines offer, e.g. `gpu-sm120`.
    """

    engines: Mapping[str, str | None]
    base: str = DEFAULT_BASE
    labels: frozenset[str] = field(default_factory=frozenset)

    def engine(self, platform: str | None, host: str) -> tuple[str, str | None]:
        """Platform and address for a step; any platform goes to this machine's own first."""
        chosen = platform or (host if host in self.engines else next(iter(self.engines)))
        return chosen, self.engines[chosen]


def load(root: Path, environment: Mapping[str, str], *, host: str) -> DaggerSettings:
    """Settings of the project in `root`.

    Args:
        root: the project's folder, which may hold forge.yaml.
        environment: the caller's environment variables.
        host: this machine's platform, `linux/amd64`.

    Raises ConfigurationError that names the file or variable and what is wrong in it.
    """
    found = _read(root / FILE)
    engines: Mapping[str, str | None] = found.engines
    if text := environment.get("FORGE_DAGGER_ENGINES"):
        engines = _from_variable(text)
    given = environment.get("FORGE_RUNNER_LABELS", "").split(",")
    labels = [label for label in given if label] or found.labels
    return DaggerSettings(
        engines=engines or {host: environment.get(RUNNER_HOST) or None},
        base=environment.get("FORGE_DAGGER_BASE") or found.base,
        labels=frozenset(labels),
    )


def _read(path: Path) -> _Dagger:
    import yaml

    try:
        data = path.read_bytes() if path.exists() else b""
        if len(data) > _MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes")
        return _File.model_validate(yaml.safe_load(data) or {}).runners.dagger
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise _wrong(str(path), error) from None


def _from_variable(text: str) -> Mapping[str, str | None]:
    try:
        engines = TypeAdapter(_Engines).validate_python(json.loads(text), strict=True)
    except ValueError as error:  # no JSON, or no mapping of platform to address
        raise _wrong("FORGE_DAGGER_ENGINES", error) from None
    return dict(engines)


def _wrong(where: str, error: Exception) -> ConfigurationError:
    why = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    hint = 'engines look like {"linux/amd64": "unix:///run/dagger/engine.sock"}; docs/runners.md'
    return ConfigurationError(f"{where} cannot be used", why=why, hint=hint)
