"""`make demo` as a newcomer runs it, in a copy of this project: the story that it prints, held."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(1200)]

PROJECT = Path(__file__).parents[2]
PARTS = ("scripts", "pipelines", "stages", "profiles", "dockerfiles")


@dataclass(frozen=True)
class Told:
    """What one run printed, and the rows of its last table by their first column."""

    text: str
    rows: dict[str, dict[str, str]]

    def questions(self) -> tuple[int, int, int]:
        """Asked, answered and failed, as the demo counted them."""
        found = re.search(r"(\d+) requests: (\d+) answered, (\d+) failed", self.text)
        assert found is not None, self.text
        asked, answered, failed = (int(number) for number in found.groups())
        return asked, answered, failed


def demo(folder: Path) -> Told:
    report = folder / "report.json"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
    done = subprocess.run(
        [sys.executable, "scripts/demo.py"],
        cwd=folder,
        env=kept | {"FORGE_DEMO_REPORT": str(report)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    rows = json.loads(report.read_bytes())
    return Told(done.stdout, {row["link"]: row for row in rows})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    for part in PARTS:
        shutil.copytree(PROJECT / part, folder / part)
    return folder


@pytest.fixture(scope="module")
def told(project: Path) -> Told:
    return demo(project)


def test_a_first_version_goes_from_a_checkpoint_to_an_answer(told: Told) -> None:
    assert told.rows["device"]["came_out"].startswith("slot a, smollm2 1.0.0")
    assert "Paris" in told.rows["answer"]["came_out"]


def test_a_small_change_is_an_update_of_a_few_bytes_into_the_other_slot(told: Told) -> None:
    update = told.rows["update"]
    assert update["came_out"] == "slot b, smollm2 1.0.1"
    fetched, size = update["size"].split(" of ")
    assert fetched.endswith(" kB")  # of megabytes: the engine is compiled and fetched once
    assert size.endswith(" MB")
    assert float(size.split()[0]) > 90
    assert re.search(r"Cached: checkpoint, engine@development\nRan: repository@", told.text)


def test_a_model_that_a_loosened_gate_let_through_is_refused_by_the_device_which_says_why(
    told: Told,
) -> None:
    # What ships is what was measured: after it was pruned.
    assert re.search(r"Cached: .*repository@\S+\nRan: prune@\S+, .*smoke@development", told.text)
    bad = told.rows["bad update"]
    assert bad["came_out"] == "rejected; slot b still serves 1.0.1"
    assert re.search(
        r"The device rejected smollm2 1\.0\.2: [1-5] of 5 golden prompts got a wrong", told.text
    )
    assert "smollm2 stable → 1.0.1 (was 1.0.2)" in told.text


def test_the_api_answered_throughout(told: Told) -> None:
    asked, answered, failed = told.questions()
    assert (answered, failed) == (asked, 0)
    counted = re.search(r"(\d+) by 1\.0\.0, (\d+) by 1\.0\.1; 0 answered wrongly", told.text)
    assert counted is not None
    assert sum(int(number) for number in counted.groups()) == answered
    assert told.rows["requests"]["came_out"] == f"{answered} answers, 0 failed"


def test_again_it_publishes_nothing_new_and_tells_the_same_story(project: Path, told: Told) -> None:
    again = demo(project)
    for link in ("checkpoint", "engine@development", "smoke@development", "proofs@development"):
        assert told.rows[link]["seconds"] != "stored"
        assert again.rows[link]["seconds"] == "stored"
    for link in ("publish", "update", "bad update"):
        assert again.rows[link]["came_out"] == told.rows[link]["came_out"]
    assert again.questions()[2] == 0
