"""A project that `forge init` wrote releases a bundle: its own files, the real model and Triton."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.project_world import RELEASE, ROOT, World

pytestmark = [pytest.mark.slow, pytest.mark.network]


def test_new_project_passes_its_check_and_releases_sharing_what_another_stored(
    world: World, tmp_path: Path
) -> None:
    project = tmp_path / "mine"
    world.forge("init", str(project))
    (project / ".forge").mkdir()
    (project / ".forge" / "environments").symlink_to(ROOT / ".forge" / "environments")
    # The other project's store without its signed metadata: these keys are new.
    shutil.copytree(
        world.project / "artifacts", project / "artifacts",
        ignore=shutil.ignore_patterns("tuf"), copy_function=os.link, dirs_exist_ok=True,
    )  # fmt: skip
    mine = World(project)
    mine.forge("check")
    mine.forge("keys", "init")

    same = {row["step"]: row["status"] for row in mine.json("plan", *RELEASE)}
    assert same.pop("proofs@development") == "run"
    assert same.pop("publish") == "waits"
    assert set(same.values()) == {"hit"}

    changed = ("--set", "serving.default_max_tokens=64", "--version", "1.0.0")
    steps = {row["step"]: row for row in mine.json("run", *RELEASE, *changed)}
    assert steps["engine@development"]["status"] == "hit"
    assert steps["repository@development"]["status"] == "run"
    assert steps["smoke@development"]["status"] == "run"
    (manifest,) = mine.json("bundle", "show", "1.0.0")
    assert manifest["tree"] == steps["repository@development"]["outputs"]["repository"]
