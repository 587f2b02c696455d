"""The runner a command line or FORGE_RUNNER names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from forge.container import running_image
from forge.runners.base import Runner
from forge.runners.local import LocalRunner, host_platform

__all__ = ["RUNNERS", "open_runner"]

RUNNERS: Final = ("local", "dagger")


def open_runner(name: str, root: Path, work: Path, environment: Mapping[str, str]) -> Runner:
    """The runner of that name; nothing is contacted.

    Args:
        name: one of RUNNERS.
        root: the project's folder, which may hold forge.yaml.
        work: the project's folder for what Forge makes, `.forge`.
        environment: the caller's environment variables.

    Raises ConfigurationError if forge.yaml or a FORGE_DAGGER_… variable is wrong.
    """
    labels = environment.get("FORGE_RUNNER_LABELS", "")
    local = LocalRunner(
        cache=work / "environments",
        environment=dict(environment),
        labels=frozenset(label for label in labels.split(",") if label),
        image=running_image(environment),
    )
    if name == "local":
        return local
    from forge.runners.dagger import DaggerRunner
    from forge.runners.dagger_settings import load

    settings = load(root, environment, host=host_platform())
    return DaggerRunner(settings, dict(environment), local)
