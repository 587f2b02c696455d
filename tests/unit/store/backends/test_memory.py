"""What is special of the store in memory; its contract is tests/e2e/test_store_objects.py."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import pytest

from forge.errors import NotInStoreError
from forge.store.backends.memory import MemoryObjects
from forge.store.disk_errors import DiskError


def test_each_instance_is_a_store_of_its_own() -> None:
    first, second = MemoryObjects(), MemoryObjects()
    first.write("x", b"1")
    assert first.url != second.url
    with pytest.raises(NotInStoreError, match=second.url):
        second.read("x", max_bytes=1)


def test_times_are_of_the_clock_that_was_given() -> None:
    now = 5.0
    objects = MemoryObjects(clock=lambda: now)
    objects.write("x", b"1")
    objects.write("y", b"1")
    now = 7.0
    objects.touch("y")
    assert {entry.name: entry.modified for entry in objects.entries("")} == {"x": 5.0, "y": 7.0}


def test_an_etag_is_the_digest_of_the_bytes() -> None:
    objects = MemoryObjects()
    expected = hashlib.sha256(b"1").hexdigest()
    assert objects.write("x", b"1") == objects.read("x", max_bytes=1).etag == expected


def test_bytes_that_the_caller_changes_later_stay_as_they_were_stored() -> None:
    objects, data = MemoryObjects(), bytearray(b"abc")
    objects.write("x", data)  # type: ignore[arg-type]  # mypy tells them apart
    data[0] = 0
    assert objects.read("x", max_bytes=3).data == b"abc"


def test_a_listing_is_as_of_its_first_step() -> None:
    objects = MemoryObjects()
    for name in ("a", "b", "c"):
        objects.write(name, b"")
    found = []
    for entry in objects.entries(""):
        objects.delete("c")
        objects.write("d", b"")
        found.append(entry.name)
    assert sorted(found) == ["a", "b", "c"]


def test_a_file_is_taken_only_where_it_was_given_away(tmp_path: Path) -> None:
    objects, path = MemoryObjects(), tmp_path / "file"
    path.write_bytes(b"1")
    objects.write_file("x", path)
    assert path.exists()
    objects.write_file("y", path, take=True)
    assert not path.exists()
    assert objects.read("y", max_bytes=1).data == b"1"
    with pytest.raises(DiskError, match="z cannot be stored") as caught:
        objects.write_file("z", path)
    assert str(path) in caught.value.why
    assert objects.size("z") is None


def test_the_scratch_folder_goes_with_the_store() -> None:
    objects = MemoryObjects()
    folder = objects.scratch()
    assert folder == objects.scratch()
    (folder / "pack").touch()
    assert objects.sweep(1e12) == 1
    assert list(folder.iterdir()) == []
    (folder / "pack").touch()
    del objects
    gc.collect()
    assert not folder.exists()


def test_a_store_without_a_scratch_folder_sweeps_nothing() -> None:
    assert MemoryObjects().sweep(1e12) == 0
