"""What `.forge` contains, and deleting what can be made again: never what is in use, never keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forge import sealed
from forge.errors import StoreError
from forge.runners.work_folder import AREAS, Area, WorkFolder, folder_bytes
from tests.support.spawn import Spawn

NOW = 1_800_000_000.0
DAY = 86400


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / ".forge")


def add(work: WorkFolder, area: str, name: str, *, days: float = 0, size: int = 5000) -> Path:
    """A folder that was used so many days ago."""
    folder = work.path / area / name
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x" * size)
    os.utime(folder, (NOW - days * DAY, NOW - days * DAY))
    return folder


@pytest.mark.parametrize(
    ("area", "days", "kept"),
    [
        ("environments", 29, True), ("environments", 31, False), ("trees", 13, True),
        ("trees", 15, False), ("failed", 29, True), ("failed", 31, False),
    ],
)  # fmt: skip
def test_a_run_bounds_what_was_not_used_for_a_long_time(
    work: WorkFolder, area: Area, days: float, kept: object
) -> None:
    folder = add(work, area, "a" * 64, days=days)
    work.bound(NOW, area)
    assert folder.exists() is kept


def test_keys_and_what_forge_did_not_write_are_never_deleted(work: WorkFolder) -> None:
    kept = [add(work, one, "x", days=999) for one in ("keys", "demo", "store")]
    assert work.prune(NOW, 0) == []
    assert all(one.exists() for one in kept)


def test_a_sealed_environment_is_deleted_with_its_read_only_folders(work: WorkFolder) -> None:
    folder = add(work, "environments", "openvino-0123", days=99)
    (folder / "bin").mkdir()
    sealed.seal(folder)
    sealed.seal_root(folder)
    os.utime(folder, (1, 1))
    (item,) = work.prune(NOW, 30)
    assert item.path == folder
    assert not folder.exists()


def test_what_is_known_of_a_tree_goes_with_it(work: WorkFolder) -> None:
    folder = add(work, "trees", "ab" * 32, days=99)
    seen = folder.with_name(f"{folder.name}.seen.json")
    seen.write_text("{}")
    work.prune(NOW, 30)
    assert not seen.exists()


def test_a_dry_run_deletes_nothing_and_lists_the_same(work: WorkFolder) -> None:
    folders = {add(work, area, "x-4194305", days=99) for area in AREAS}
    listed = work.prune(NOW, 30, dry_run=True)
    assert {one.path for one in listed} == folders
    assert all(one.exists() for one in folders)
    assert [one.path for one in work.prune(NOW, 30)] == [one.path for one in listed]


def test_only_the_named_kinds_are_deleted(work: WorkFolder) -> None:
    environment = add(work, "environments", "a", days=99)
    failed = add(work, "failed", "b", days=99)
    work.prune(NOW, 0, ["failed"])
    assert environment.exists()
    assert not failed.exists()


def test_nothing_is_deleted_while_another_process_runs_steps(
    work: WorkFolder, spawn: Spawn
) -> None:
    folder = add(work, "environments", "a", days=99)
    script = (
        "import sys; from pathlib import Path; from forge.runners.work_folder import WorkFolder\n"
        "with WorkFolder(Path(sys.argv[1])).used():\n"
        "    print('used', flush=True); sys.stdin.read()\n"
    )
    run = spawn(
        [sys.executable, "-c", script, str(work.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "used\n"
    assert work.prune(NOW, 0) == []
    assert [one.in_use for one in work.items()] == [True]
    assert run.stdin is not None
    run.stdin.close()
    run.wait()
    assert [one.path for one in work.prune(NOW, 0)] == [folder]


def test_two_runs_may_use_the_folders_at_once(work: WorkFolder) -> None:
    with work.used(), work.used():
        assert work.prune(NOW, 0) == []


def test_a_folder_that_cannot_be_written_does_not_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with WorkFolder(tmp_path / "file").used():
        assert WorkFolder(tmp_path / "file").items() == []


def test_the_step_of_a_process_that_runs_is_in_use(work: WorkFolder) -> None:
    mine = add(work, "running", f"engine-0-{os.getpid()}", days=9)
    dead = add(work, "running", "engine-0-4194305", days=9)  # above the highest process id
    assert {one.path: one.in_use for one in work.items()} == {mine: True, dead: False}
    work.bound(NOW, "running")
    assert (mine.exists(), dead.exists()) == (True, False)


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    once = folder_bytes(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert folder_bytes(tmp_path) == once >= 100_000


def test_a_project_that_cannot_be_written_is_said_to_be_so_before_any_step(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("a file, where root may not write either")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        WorkFolder(tmp_path / "project" / ".forge").check_writable()
    assert f"cp -r {tmp_path}/project FOLDER" in caught.value.hint
    WorkFolder(tmp_path / "other" / ".forge").check_writable()
    assert list((tmp_path / "other" / ".forge").iterdir()) == []
