"""The step in which a builder's tool compares an engine with its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.profiles import Profile, select
from forge.steps import Artifact, Environment, Step, tool

__all__ = ["receipt_step"]

READS: Final = ("engine.max_batch_size", "engine.max_seq_len")


def receipt_step(
    profile: Profile,
    script: Path,
    environment: Environment,
    executed: Artifact,
    weights: Weights,
    checkpoint: Artifact | None = None,
) -> Artifact:
    """Plan a run of a tool `…_receipt.py`.

    Args:
        profile: the device SKU, for the batch and the lengths.
        script: calls `main` of forge/builders/tools/receipt.py.
        environment: has the script's packages and numpy.
        executed: what the script executes.
        weights: the model.
        checkpoint: for a script that compares weights as well: the form that was compiled.
    """
    compared = {} if checkpoint is None else {"checkpoint": checkpoint}
    step = Step(
        id=f"accuracy@{profile.name}",
        argv=(
            f"${{tools.{environment.name}}}/bin/python",
            f"${{source.{script.stem}}}",
            *("--engine", "${inputs.engine}"),
            *("--reference", "${inputs.reference}"),
            *(word for name in compared for word in (f"--{name}", f"${{inputs.{name}}}")),
            *("--settings", "${settings}"),
            *("--output", "${outputs.receipt}"),
        ),
        inputs={"engine": executed, "reference": weights.reference, **compared},
        outputs=("receipt",),
        settings=select(profile, READS),
        environments=(environment,),
        sources=tool(script),
    )
    return step["receipt"]
