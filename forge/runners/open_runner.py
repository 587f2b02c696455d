"""Open the runner that --runner or FORGE_RUNNER names."""

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
    """Return the runner with a name, without connecting.

    Args:
        name: one of RUNNERS.
        root: the project folder, which may contain forge.yaml.
        work: Forge's working folder in the project, `.forge`.
        environment: the caller's environment variables.

    Raises ConfigurationError if forge.yaml or a FORGE_DAGGER_… variable is not valid.
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
    from forge.runners.dagger.runner import DaggerRunner
    from forge.runners.dagger.settings import load

    settings = load(root, environment, host=host_platform())
    return DaggerRunner(settings, dict(environment), local)
