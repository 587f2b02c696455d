"""Settings of the dagger runner: engines, base image, labels.

    # forge.yaml in the project folder; every key is optional
    runners:
      dagger:
        engines:                                  # one engine per platform
          linux/amd64: unix:///run/dagger/engine.sock
          linux/arm64: tcp://thor.example:8080
        base: docker.io/library/python:{python}-slim-bookworm
        labels: [gpu-sm120]                       # labels of these engines

FORGE_DAGGER_ENGINES (a JSON object), FORGE_DAGGER_BASE and FORGE_RUNNER_LABELS override the file.
Two platforms may have the same address: the engine then emulates the foreign platform.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from forge.errors import ConfigurationError
from forge.runners.project_file import DEFAULT_BASE, Engines, read_project_file
from forge.validation import validation_text

__all__ = ["DEFAULT_BASE", "DaggerSettings", "load"]

RUNNER_HOST: Final = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"


@dataclass(frozen=True, slots=True)
class DaggerSettings:
    """Settings of the dagger runner.

    Attributes:
        engines: address by platform; None for Dagger's default engine, which it starts with docker
            or podman.
        base: image reference of a Python; `{python}` is replaced by the version that a step uses.
        labels: labels of the engines, e.g. `gpu-sm120`.
    """

    engines: Mapping[str, str | None]
    base: str = DEFAULT_BASE
    labels: frozenset[str] = field(default_factory=frozenset)

    def engine(self, platform: str | None, host: str) -> tuple[str, str | None]:
        """Return platform and address for a step; None prefers this machine's platform."""
        chosen = platform or (host if host in self.engines else next(iter(self.engines)))
        return chosen, self.engines[chosen]


def load(root: Path, environment: Mapping[str, str], *, host: str) -> DaggerSettings:
    """Return the settings of the project in `root`.

    Args:
        root: the project's folder, which may hold forge.yaml.
        environment: the caller's environment variables.
        host: this machine's platform, `linux/amd64`.

    Raises ConfigurationError that names the file or variable and its error.
    """
    found = read_project_file(root).runners.dagger
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


def _from_variable(text: str) -> Mapping[str, str | None]:
    try:
        engines = TypeAdapter(Engines).validate_python(json.loads(text), strict=True)
    except ValueError as error:  # not JSON, or not a mapping of platform to address
        raise _wrong("FORGE_DAGGER_ENGINES", error) from None
    return dict(engines)


def _wrong(where: str, error: Exception) -> ConfigurationError:
    why = validation_text(error) if isinstance(error, ValidationError) else str(error)
    hint = (
        'example: {"linux/amd64": "unix:///run/dagger/engine.sock"}; see docs/reference/runners.md'
    )
    return ConfigurationError(f"{where} is not valid", why=why, hint=hint)
