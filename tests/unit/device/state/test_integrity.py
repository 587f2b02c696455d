"""Damage of a slot: what is seen before a start, and what only reading every byte shows."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from forge import canonical
from forge.bundle import Manifest
from forge.device.shared.release import Release
from forge.device.state import integrity
from forge.device.state.directory import StateDirectory
from forge.device.state.integrity import before_start, by_digest
from forge.files import sha256_file
from forge.store.formats.tree import Tree, TreeEntry
from tests.support.manifests import manifest

FILES = {"models/llm/1/model.py": b"print()", "runtime/lock": b"", "weights.bin": bytes(100_000)}


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    """A device with a whole bundle in slot a."""
    made = StateDirectory(tmp_path / "state")
    made.clean()
    made.slots.set_aside("a")
    entries = []
    for path, data in FILES.items():
        target = made.slots.tree("a") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        digest = canonical.sha256(data)
        entries.append(TreeEntry(path=path, mode=0o644, size=len(data), sha256=digest))
    tree = Tree(entries=tuple(entries))
    sealed = manifest("1.0.0").model_copy(update={"tree": tree.reference()})
    made.slots.mark_complete("a", sealed, tree.encode())
    return made


def release(home: StateDirectory) -> Release:
    found = home.slots.manifest("a")
    assert isinstance(found, Manifest)
    return Release.of(found)


def test_a_whole_slot_has_no_damage(home: StateDirectory) -> None:
    assert before_start(home, "a", release(home)) == ()
    assert by_digest(home, "a", release(home)) == ()


def test_a_flipped_bit_of_a_large_file_is_seen_by_reading_all(
    home: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "CODE_BYTES", 99_999)
    path = home.slots.tree("a") / "weights.bin"
    data = bytearray(path.read_bytes())
    data[70_000] ^= 1
    path.write_bytes(data)
    assert before_start(home, "a", release(home)) == ()
    assert [str(one) for one in by_digest(home, "a", release(home))] == [
        "weights.bin has other bytes"
    ]


def test_code_of_the_same_size_is_seen_before_a_start(home: StateDirectory) -> None:
    path = home.slots.tree("a") / "models/llm/1/model.py"
    path.write_bytes(b"evil()#")
    assert [str(one) for one in before_start(home, "a", release(home))] == [
        "models/llm/1/model.py has other bytes"
    ]


def test_what_is_missing_short_too_much_or_no_file_is_seen_by_both(home: StateDirectory) -> None:
    tree = home.slots.tree("a")
    (tree / "weights.bin").write_bytes(bytes(99))
    (tree / "models/llm/1/model.py").unlink()
    (tree / "runtime/lock").unlink()
    (tree / "runtime/lock").symlink_to("/dev/null")
    (tree / "models/llm/1/sitecustomize.py").write_text("import os")
    (tree / "elsewhere").symlink_to("/")
    for check in (before_start, by_digest):
        assert [str(one) for one in check(home, "a", release(home))] == [
            "elsewhere does not belong here",
            "models/llm/1/model.py is missing",
            "models/llm/1/sitecustomize.py does not belong here",
            "runtime/lock is not a regular file",
            "weights.bin has 99 bytes, not 100000",
        ]


@pytest.mark.parametrize("check", [before_start, by_digest])
def test_a_file_on_a_bad_sector_is_damage_and_a_disk_that_fails_otherwise_is_not(
    home: StateDirectory, monkeypatch: pytest.MonkeyPatch, check: Callable[..., object]
) -> None:
    number = errno.EIO

    def fails(path: Path) -> str:
        if path.name == "model.py":
            raise OSError(number, os.strerror(number))
        return sha256_file(path)

    monkeypatch.setattr(integrity, "sha256_file", fails)
    found = (integrity.Damage("models/llm/1/model.py", "cannot be read"),)
    assert check(home, "a", release(home)) == found
    number = errno.EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        check(home, "a", release(home))


@pytest.mark.parametrize("name", ["tree.json", "manifest.json"])
def test_a_lost_or_damaged_document_is_damage(home: StateDirectory, name: str) -> None:
    wanted = release(home)
    path = home.slots.folder("a") / name
    for damage in (path.read_bytes()[:-3], b""):
        path.write_bytes(damage)
        assert [one.path for one in by_digest(home, "a", wanted)] == [name]
    path.unlink()
    assert [one.path for one in by_digest(home, "a", wanted)] == [name]


def test_a_slot_of_an_older_forge_that_kept_no_tree_is_served_by_its_totals(
    home: StateDirectory,
) -> None:
    (home.slots.folder("a") / "tree.json").unlink()
    assert before_start(home, "a", release(home)) == ()
    (home.slots.tree("a") / "weights.bin").write_bytes(bytes(99_999))
    assert [one.path for one in before_start(home, "a", release(home))] == ["tree.json", "tree/"]
