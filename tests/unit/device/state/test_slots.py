"""The content of a slot: put aside, restored, staged and installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forge.device.state.directory import StateDirectory
from tests.support.manifests import manifest


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


@pytest.mark.parametrize("moment", ["made", "moved away"])
def test_a_staged_tree_that_a_kill_left_is_installed_at_the_next_start(
    home: StateDirectory, moment: str
) -> None:
    home.slots.set_aside("a")
    home.slots.tree("a").mkdir()
    (home.slots.tree("a") / "file").write_bytes(b"damaged")
    home.slots.staged("a").mkdir()
    (home.slots.staged("a") / "file").write_bytes(b"whole")
    if moment == "moved away":
        shutil.rmtree(home.slots.tree("a"))
    home.clean()
    assert (home.slots.tree("a") / "file").read_bytes() == b"whole"
    assert not home.slots.staged("a").exists()
    assert not list(home.tmp.iterdir())


def test_set_aside_keeps_the_old_content_as_a_seed_only(home: StateDirectory) -> None:
    home.slots.set_aside("a")
    home.slots.tree("a").mkdir()
    (home.slots.tree("a") / "file").write_bytes(b"old")
    home.slots.mark_complete("a", manifest("1.0.0"))
    [seed] = home.slots.set_aside("a")
    assert (seed / "file").read_bytes() == b"old"
    assert home.slots.manifest("a") is None
    assert not home.slots.tree("a").exists()
    home.clean()
    assert not seed.exists()


def test_a_slot_that_was_set_aside_is_restored_whole_and_what_was_fetched_stays(
    home: StateDirectory,
) -> None:
    home.slots.set_aside("a")
    for name in ("tree", "proofs", "engine"):
        (home.slots.folder("a") / name).mkdir()
        (home.slots.folder("a") / name / "file").write_text(f"old {name}")
    home.slots.mark_complete("a", manifest("1.0.0"), b"digests")
    home.slots.set_aside("a")
    for name in ("tree", "proofs", ".tree.parts"):
        (home.slots.folder("a") / name).mkdir()
        (home.slots.folder("a") / name / "file").write_text("new")
    assert home.slots.restore("a")
    assert home.slots.manifest("a") == manifest("1.0.0")
    assert home.slots.tree_document("a") == b"digests"
    for name in ("tree", "proofs", "engine"):
        assert (home.slots.folder("a") / name / "file").read_text() == f"old {name}"
    assert not list(home.tmp.iterdir())
    home.slots.set_aside("b")  # the slot that the next fetch fills, once the device went back to a
    assert (home.slots.folder("b") / ".tree.parts" / "file").read_text() == "new"
    assert not (home.slots.folder("a") / ".tree.parts").exists()


def test_what_was_not_complete_or_is_gone_is_not_restored(home: StateDirectory) -> None:
    home.slots.set_aside("a")
    home.slots.tree("a").mkdir()
    home.slots.set_aside("a")
    assert not home.slots.restore("a")
    home.slots.mark_complete("a", manifest("1.0.0"))
    home.slots.set_aside("a")
    home.slots.drop_backup("a")
    assert not home.slots.restore("a")
    assert home.slots.manifest("a") is None


def test_a_damaged_manifest_makes_a_slot_incomplete(home: StateDirectory) -> None:
    home.slots.set_aside("a")
    (home.slots.folder("a") / "manifest.json").write_bytes(b"{}")
    assert home.slots.manifest("a") is None
