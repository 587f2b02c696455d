"""The smoke benchmark on the target and the gate a release must pass."""

from importlib.metadata import version
from pathlib import Path

import forge.nvpmodel
import forge.serving
import forge.smoke
from forge.bundle import SmokeSummary
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, source, sources
from stages import DOCKERFILES, image

SOURCES = (Path(forge.smoke.__path__[0]), Path(forge.serving.__path__[0]))


def benchmark(profile: Profile, repository: Artifact) -> Artifact:
    """Start Triton on the target, ask the golden prompts, measure at each concurrency."""
    name = profile.serving.environment
    environments = (locked(DOCKERFILES / name),) if name else ()
    server = ("--environment", "${tools." + name + "}") if name else ()
    step = Step(
        id=f"smoke@{profile.name}",
        argv=(
            "${python}", "-m", "forge.smoke", "benchmark",
            "--repository", "${inputs.repository}",
            *server,
            "--settings", "${settings}",
            "--output", "${outputs.result}",
        ),
        inputs={"repository": repository},
        outputs=("result",),
        settings=select(
            profile,
            ("smoke.prompts", "smoke.golden", "smoke.concurrency", "smoke.requests",
             "smoke.max_tokens", "serving.start_timeout_s", "power"),
        ),
        environments=environments,
        # Triton and the runtime are the image's: the runner must be in it, or start it.
        image=None if name else image.pinned(profile).serving.image,
        sources=(*sources(*SOURCES), source(Path(forge.nvpmodel.__file__))),
        libraries={"httpx": version("httpx")},
        platform=profile.platform,
        labels=profile.runner.labels,
        exclusive=True,
        planned_only=_planned_only(profile),
    )  # fmt: skip
    return step["result"]


def _planned_only(profile: Profile) -> str:
    if profile.serving.server == "environment" or image.of_profile(profile):
        return ""
    return image.unresolved(profile.serving.image)


def gate(profile: Profile, result: Artifact, baseline: SmokeSummary | None) -> Artifact:
    """Stop the release (exit code 6) if `result` is worse than the profile or the last bundle."""
    settings = select(profile, ("smoke.thresholds", "smoke.regression_pct"))
    step = Step(
        id=f"gate@{profile.name}",
        argv=(
            "${python}", "-m", "forge.smoke", "gate",
            "--result", "${inputs.result}",
            "--settings", "${settings}",
            "--output", "${outputs.verdict}",
        ),
        inputs={"result": result},
        outputs=("verdict",),
        settings={**settings, "baseline": baseline.model_dump(mode="json") if baseline else None},
        sources=sources(SOURCES[0]),
    )  # fmt: skip
    return step["verdict"]
