"""The smoke benchmark on the target, and the gate that a release must pass."""

from importlib.metadata import version

from forge.bundle import SmokeSummary
from forge.closure import sources_of
from forge.profiles import Profile, select
from forge.smoke.result import Baseline
from forge.steps import Artifact, Step, locked
from stages import DOCKERFILES, STORE_SECRETS, image


def benchmark(profile: Profile, repository: Artifact, last: Baseline | None = None) -> Artifact:
    """Plan the benchmark on the target: golden prompts, then load at each concurrency.

    A machine that has memory for two servers (`serving.activation: blue-green`) also serves the
    last published bundle and asks both in turn: a busy machine then slows both alike.
    """
    name = profile.serving.environment
    before = _last(profile, last)
    environments = (locked(DOCKERFILES / name),) if name else ()
    server = ("--environment", "${tools." + name + "}") if name else ()
    step = Step(
        id=f"smoke@{profile.name}",
        argv=(
            "${python}", "-m", "forge.smoke.steps.benchmark",
            "--repository", "${inputs.repository}",
            *server,
            *(("--last", "${inputs.last}") if before else ()),
            "--settings", "${settings}",
            "--output", "${outputs.result}",
        ),
        inputs={"repository": repository, **before},
        outputs=("result",),
        settings=select(
            profile,
            ("smoke.prompts", "smoke.golden", "smoke.concurrency", "smoke.requests", "smoke.runs",
             "smoke.slo", "smoke.max_tokens", "serving.start_timeout_s", "power",
             "hardware.match.gpu_name", "hardware.compute_capability",
             *(("smoke.regression_pct",) if before else ())),
        ),
        environments=environments,
        # Triton and the runtime are the image's: the runner must be in it, or start it.
        image=None if name else image.pinned(profile).serving.image,
        sources=sources_of("forge.smoke.steps.benchmark"),
        libraries={"httpx": version("httpx")},
        platform=profile.platform,
        labels=profile.runner.labels,
        exclusive=True,
        planned_only=_planned_only(profile),
    )  # fmt: skip
    return step["result"]


def _last(profile: Profile, last: Baseline | None) -> dict[str, Artifact]:
    """Return the tree of the last bundle as an input; none if it is not to be served here."""
    serving = profile.serving
    if last is None or last.tree is None or serving.activation != "blue-green":
        return {}
    if serving.server != "environment":
        return {}  # one image holds one runtime, and the last bundle may name another image
    step = Step(
        id=f"last@{profile.name}",
        argv=(
            "${python}", "-m", "forge.smoke.steps.last",
            "--store", "${store}",
            "--settings", "${settings}",
            "--output", "${outputs.tree}",
        ),
        inputs={},
        outputs=("tree",),
        settings={"tree": last.tree},
        sources=sources_of("forge.smoke.steps.last"),
        secrets=STORE_SECRETS,
    )  # fmt: skip
    return {"last": step["tree"]}


def _planned_only(profile: Profile) -> str:
    if profile.serving.server == "environment" or image.of_profile(profile):
        return ""
    return image.unresolved(profile.serving.image)


def gate(profile: Profile, result: Artifact, baseline: Baseline | SmokeSummary | None) -> Artifact:
    """Plan the gate, which fails with exit code 6 if `result` is worse than the limits."""
    settings = select(profile, ("smoke.thresholds", "smoke.regression_pct"))
    step = Step(
        id=f"gate@{profile.name}",
        argv=(
            "${python}", "-m", "forge.smoke.steps.gate",
            "--result", "${inputs.result}",
            "--settings", "${settings}",
            "--output", "${outputs.verdict}",
        ),
        inputs={"result": result},
        outputs=("verdict",),
        settings={**settings, "baseline": baseline.model_dump(mode="json") if baseline else None},
        sources=sources_of("forge.smoke.steps.gate"),
    )  # fmt: skip
    return step["verdict"]
