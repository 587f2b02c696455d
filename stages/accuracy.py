"""The comparison of an engine with its checkpoint, and the gate that a release must pass."""

from dataclasses import dataclass

from forge.accuracy.receipt import Receipt
from forge.builders import Weights, builder_of
from forge.closure import sources_of
from forge.profiles import Profile, select
from forge.steps import Artifact, Step
from stages import DOCKERFILES


def receipt(profile: Profile, engine: Artifact, weights: Weights) -> Artifact:
    """Plan the receipt: how much the engine of one SKU differs from its checkpoint."""
    return builder_of(profile).receipt(profile, engine, weights, DOCKERFILES)


@dataclass(frozen=True)
class Accepted:
    """Outputs of the gate: its verdict, and the positions that devices repeat."""

    verdict: Artifact
    probe: Artifact


def gate(profile: Profile, measured: Artifact, baseline: Receipt | None) -> Accepted:
    """Plan the gate, which fails with exit code 6 if the engine differs too much."""
    step = Step(
        id=f"accuracy-gate@{profile.name}",
        argv=(
            "${python}", "-m", "forge.accuracy.steps.gate",
            "--receipt", "${inputs.receipt}",
            "--settings", "${settings}",
            "--output", "${outputs.verdict}",
            "--probe", "${outputs.probe}",
        ),
        inputs={"receipt": measured},
        outputs=("verdict", "probe"),
        settings={
            **select(profile, ("accuracy",)),
            "baseline": baseline.model_dump(mode="json") if baseline else None,
        },
        sources=sources_of("forge.accuracy.steps.gate"),
    )  # fmt: skip
    return Accepted(step["verdict"], step["probe"])
