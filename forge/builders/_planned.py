"""What the builders share that plan an engine but cannot be run by this version yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from forge.canonical import Json
from forge.profiles import Profile
from forge.steps import Artifact, Step, source

__all__ = ["planned_engine"]


def planned_engine(
    profile: Profile,
    checkpoint: Artifact,
    argv: tuple[str, ...],
    settings: Mapping[str, Json],
    module: str,
) -> Artifact:
    """An engine step that shows its command and labels and is refused by every runner."""
    step = Step(
        id=f"engine@{profile.name}",
        argv=argv,
        inputs={"checkpoint": checkpoint},
        outputs=("engine",),
        settings=settings,
        sources=(source(Path(module)),),
        platform=profile.platform,
        labels=profile.runner.labels,
        planned_only=f"builder {profile.engine.builder} plans but does not run in this version",
    )
    return step["engine"]
