"""Write the cells of a matrix as the child pipeline of a GitLab pipeline.

GitLab runs a pipeline that a job has written (`trigger: include: artifact`), so there are as many
rounds as the plan needs: each is a stage. A runner is chosen by tags: a hosted cell has the tag in
the variable FORGE_AMD64_TAG or FORGE_ARM64_TAG, a labelled cell its labels without `self-hosted`,
which only GitHub has.

Source: https://docs.gitlab.com/ci/yaml/ and https://docs.gitlab.com/ci/pipelines/downstream_pipelines/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from forge.errors import ForgeError
from forge.matrix import Cell, Matrix

__all__ = ["child_pipeline", "write_child_pipeline"]

# Linux runners that gitlab.com hosts; https://docs.gitlab.com/ci/runners/hosted_runners/linux/
_HOSTED: Final[Mapping[str, tuple[str, str]]] = {
    "ubuntu-24.04": ("FORGE_AMD64_TAG", "saas-linux-medium-amd64"),
    "ubuntu-24.04-arm": ("FORGE_ARM64_TAG", "saas-linux-medium-arm64"),
}
_NOTHING: Final = "nothing to build"  # a child pipeline needs a job


def child_pipeline(
    matrix: Matrix, pipeline: str, profiles: Sequence[str], version: str
) -> dict[str, Any]:
    """Return the child pipeline as an object for a YAML file.

    Its jobs extend `.cell` of the project's `.gitlab/cell.yml`, which installs Forge and runs the
    cell that the variable CELL names, or `.device`, for a runner with labels.

    Args:
        matrix: the remaining work.
        pipeline: its name.
        profiles: names of the profiles that the matrix was made for.
        version: of the bundle.
    """
    stages = [f"round-{number}" for number in range(max(1, len(matrix.rounds)))]
    jobs: dict[str, Any] = {}
    for stage, cells in zip(stages, matrix.rounds, strict=False):
        for cell in cells:
            # A runner that has work in two rounds has two cells of one name.
            name = f"{cell.name}, {stage}" if cell.name in jobs else cell.name
            jobs[name] = _job(cell, stage)
    return {
        "include": [{"local": "/.gitlab/cell.yml"}],
        "variables": {
            **dict(_HOSTED.values()),
            "PIPELINE": pipeline,
            "PROFILES": ",".join(profiles),
            "VERSION": version,
        },
        "stages": stages,
        **(jobs or {_NOTHING: {"stage": stages[0], "script": ["echo Nothing is left to build."]}}),
    }


def write_child_pipeline(
    path: Path, matrix: Matrix, pipeline: str, profiles: Sequence[str], version: str
) -> None:
    """Write the child pipeline as a YAML file. Raises ForgeError if it cannot be written."""
    made = child_pipeline(matrix, pipeline, profiles, version)
    try:
        path.write_text(yaml.safe_dump(made, sort_keys=False, width=100), encoding="utf-8")
    except OSError as error:
        raise ForgeError(f"Could not write {path}", why=str(error)) from None


def _job(cell: Cell, stage: str) -> dict[str, Any]:
    return {
        "extends": ".device" if cell.labels else ".cell",
        "stage": stage,
        "tags": _tags(cell),
        "variables": {"CELL": cell.id, "FORGE_RUNNER_LABELS": ",".join(cell.labels)},
    }


def _tags(cell: Cell) -> list[str]:
    if cell.labels:
        return [one for one in cell.labels if one != "self-hosted"]
    variable, _ = _HOSTED[cell.runs_on[0]]
    return [f"${variable}"]
