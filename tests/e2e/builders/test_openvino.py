"""The demo's Q4_1 file as OpenVINO IR, against transformers in fp32 on the dequantised file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.store import open_store
from tests.support.project_world import World, copy_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(1800),
]

RELEASE = ("release", "--profile", "development")


@pytest.fixture(scope="module")
def world(module_folder: Path) -> World:
    made = copy_project(module_folder)
    made.forge("run", *RELEASE, "--only", "engine@development")
    return made


def output(world: World, step: str) -> Path:
    rows = {row["step"]: row for row in world.json("run", *RELEASE, "--only", step)}
    (tree,) = rows[step]["outputs"].values()
    folder = world.project / "trees" / str(tree["digest"])
    if not folder.is_dir():
        open_store(str(world.project / "artifacts")).unpack(tree["digest"], folder)
    return folder


def test_engine_says_what_was_written_anew_and_what_was_measured(world: World) -> None:
    engine = output(world, "engine@development")
    precision = json.loads((engine / "engine.json").read_text())["precision"]
    assert precision["requantised"] == {"Q4_1": "Q8_0"}
    assert precision["found"] == "u8"
    assert "u4" not in precision["weight_bytes"]
    assert json.loads((engine / "generation_config.json").read_text())["eos_token_id"] == 2
