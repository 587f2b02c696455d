"""The child pipeline of GitLab, and the pipeline of a new project, held to GitLab's own schema."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from forge import gitlab, scaffold
from forge.errors import ForgeError
from forge.gitlab import child_pipeline
from forge.matrix import Cell, Matrix

TEMPLATE = Path(scaffold.origin("forge/template/gitlab/ci.yml")).parent
SCHEMA = json.loads(
    (files("check_jsonschema") / "builtin_schemas/vendor/gitlab-ci.json").read_text("utf-8")
)
HOSTED = Cell("gate@cpu", "cpu on ubuntu-24.04", ("ubuntu-24.04",), (), ("engine@cpu", "gate@cpu"))
ARM = Cell("export@thor", "thor on ubuntu-24.04-arm", ("ubuntu-24.04-arm",), (), ("export@thor",))
LABELS = ("self-hosted", "linux", "arm64", "jetson")
DEVICE = Cell("engine@thor,sbom@thor", "thor on jetson", LABELS, LABELS, ("engine@thor",))
KEYWORDS = {"include", "variables", "stages"}


def pipeline_of(*rounds: tuple[Cell, ...]) -> dict[str, Any]:
    """What a YAML reader reads of a child pipeline."""
    matrix = Matrix(rounds=rounds, finish=("publish",), refused=())
    made = child_pipeline(matrix, "release", ["cpu", "thor"], "1.2.3")
    return dict(yaml.safe_load(yaml.safe_dump(made, sort_keys=False)))


def jobs(pipeline: dict[str, Any]) -> dict[str, Any]:
    return {name: job for name, job in pipeline.items() if name not in KEYWORDS}


@pytest.mark.parametrize("rounds", [(), ((HOSTED,),), ((HOSTED, ARM), (DEVICE,))], ids=len)
def test_child_pipeline_has_gitlab_s_schema(rounds: tuple[tuple[Cell, ...], ...]) -> None:
    jsonschema.validate(pipeline_of(*rounds), SCHEMA)


@pytest.mark.parametrize("name", ["ci.yml", "cell.yml"])
def test_pipeline_of_a_new_project_has_gitlab_s_schema(name: str) -> None:
    jsonschema.validate(yaml.safe_load((TEMPLATE / name).read_text("utf-8")), SCHEMA)


def test_schema_refuses_what_gitlab_refuses() -> None:
    pipeline = pipeline_of((HOSTED,))
    pipeline["cpu on ubuntu-24.04"]["tags"] = "saas-linux-medium-amd64"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(pipeline, SCHEMA)


def test_each_cell_is_a_job_in_the_stage_of_its_round() -> None:
    pipeline = pipeline_of((HOSTED, ARM), (DEVICE,))
    assert pipeline["stages"] == ["round-0", "round-1"]
    assert {
        name: (job["stage"], job["variables"]["CELL"]) for name, job in jobs(pipeline).items()
    } == {
        "cpu on ubuntu-24.04": ("round-0", "gate@cpu"),
        "thor on ubuntu-24.04-arm": ("round-0", "export@thor"),
        "thor on jetson": ("round-1", "engine@thor,sbom@thor"),
    }


def test_runner_is_chosen_by_tags() -> None:
    pipeline = pipeline_of((HOSTED, ARM), (DEVICE,))
    tags = [job["tags"] for job in jobs(pipeline).values()]
    assert tags == [["$FORGE_AMD64_TAG"], ["$FORGE_ARM64_TAG"], ["linux", "arm64", "jetson"]]
    assert {"FORGE_AMD64_TAG", "FORGE_ARM64_TAG"} <= pipeline["variables"].keys()


def test_labels_are_what_the_local_runner_of_the_job_claims() -> None:
    hosted, device = jobs(pipeline_of((HOSTED,), (DEVICE,))).values()
    assert hosted["variables"]["FORGE_RUNNER_LABELS"] == ""
    assert device["variables"]["FORGE_RUNNER_LABELS"] == "self-hosted,linux,arm64,jetson"


def test_release_is_the_one_that_was_planned() -> None:
    variables = pipeline_of((HOSTED,))["variables"]
    assert variables["PIPELINE"] == "release"
    assert (variables["PROFILES"], variables["VERSION"]) == ("cpu,thor", "1.2.3")


def test_runner_with_work_in_two_rounds_has_two_jobs() -> None:
    later = replace(HOSTED, id="index@cpu")
    found = {
        job["variables"]["CELL"]: job["stage"]
        for job in jobs(pipeline_of((HOSTED,), (DEVICE,), (later,))).values()
    }
    assert found["gate@cpu"] == "round-0"
    assert found["index@cpu"] == "round-2"
    assert len(found) == 3


def test_each_kind_of_job_has_its_own_role_and_builder_key() -> None:
    hosted, device = jobs(pipeline_of((HOSTED,), (DEVICE,))).values()
    shared = yaml.safe_load((TEMPLATE / "cell.yml").read_text("utf-8"))
    publish = yaml.safe_load((TEMPLATE / "ci.yml").read_text("utf-8"))["publish"]
    found = [shared[hosted["extends"]], shared[device["extends"]], publish]
    for name in ("FORGE_ROLE", "FORGE_BUILDER_KEY"):
        values = [job["variables"][name] for job in found]
        assert len(set(values)) == 3
        # A variable of the project would replace it: the names must differ.
        assert name not in {value.strip("${}") for value in values}


def test_nothing_to_build_is_still_a_pipeline_with_a_job() -> None:
    ((name, job),) = jobs(pipeline_of()).items()
    assert name == "nothing to build"
    assert "extends" not in job  # it installs nothing


def test_job_extends_one_that_the_included_file_has() -> None:
    pipeline = pipeline_of((HOSTED,))
    (included,) = pipeline["include"]
    assert included["local"] == "/.gitlab/cell.yml"
    assert pipeline["cpu on ubuntu-24.04"]["extends"] in yaml.safe_load(
        (TEMPLATE / "cell.yml").read_text("utf-8")
    )


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForgeError, match=r"Could not write .*cells.yml"):
        gitlab.write_child_pipeline(
            tmp_path / "no" / "cells.yml", Matrix((), (), ()), "release", [], "1"
        )
