"""One suite for every kind of store: what `forge.store.backends.protocol.Objects` promises."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forge.errors import ConflictError, CorruptedError, NotInStoreError, TrustError
from forge.store import Objects, open_objects
from forge.store.backends.memory import MemoryObjects
from forge.store.maintenance.service_check import check_service
from tests.support.seaweed import Seaweed


@pytest.fixture(params=["memory", "directory", "s3", "s3-with-prefix"])
def objects(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Objects:
    # The packs that an S3 store is about to send lie there: others' are not to be swept.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "directory":
        return open_objects(str(tmp_path / "store"))
    server: Seaweed = request.getfixturevalue("seaweedfs")
    suffix = "/some/prefix" if request.param == "s3-with-prefix" else ""
    return open_objects(f"s3://{server.bucket()}{suffix}", environment=server.environment)


def test_it_has_what_forge_needs_of_a_service_and_the_trial_leaves_nothing(
    objects: Objects,
) -> None:
    trial = check_service(objects)
    assert [(one.need, one.problem) for one in trial.checks if one.problem] == []
    assert trial.left == ""
    assert list(objects.entries("")) == []


def test_read_returns_what_was_written(objects: Objects) -> None:
    etag = objects.write("actions/a.json", b"first")
    stored = objects.read("actions/a.json", max_bytes=5)
    assert (stored.data, stored.etag) == (b"first", etag)
    assert objects.write("actions/a.json", b"second") != etag
    assert objects.read("actions/a.json", max_bytes=6).data == b"second"


def test_empty_object_is_kept(objects: Objects) -> None:
    objects.write("x/empty", b"")
    assert objects.read("x/empty", max_bytes=0).data == b""
    assert objects.size("x/empty") == 0


def test_read_refuses_more_than_allowed(objects: Objects) -> None:
    objects.write("x/large", b"0123456789")
    with pytest.raises(CorruptedError, match="larger than 9 bytes") as caught:
        objects.read("x/large", max_bytes=9)
    assert objects.url in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda objects: objects.read("x/none", max_bytes=1),
        lambda objects: objects.read_range("x/none", 0, 1),
        lambda objects: objects.touch("x/none"),
    ],
    ids=["read", "read_range", "touch"],
)
def test_missing_object_is_said_to_be_missing(
    objects: Objects, use: Callable[[Objects], object]
) -> None:
    objects.write("x/other", b"1")
    with pytest.raises(NotInStoreError, match="x/none is not in the store") as caught:
        use(objects)
    assert objects.url in str(caught.value)


def test_read_range_returns_exactly_the_range(objects: Objects) -> None:
    objects.write("packs/aa/p", bytes(range(256)))
    assert objects.read_range("packs/aa/p", 0, 1) == b"\0"
    assert objects.read_range("packs/aa/p", 100, 3) == bytes([100, 101, 102])
    assert objects.read_range("packs/aa/p", 250, 6) == bytes(range(250, 256))


@pytest.mark.parametrize(("start", "length"), [(250, 7), (256, 1), (1000, 5)])
def test_read_range_refuses_an_object_that_is_too_short(
    objects: Objects, start: int, length: int
) -> None:
    objects.write("packs/aa/p", bytes(range(256)))
    with pytest.raises(CorruptedError, match="packs/aa/p"):
        objects.read_range("packs/aa/p", start, length)


def test_write_new_does_not_replace(objects: Objects) -> None:
    objects.write_new("leases/one", b"mine")
    with pytest.raises(ConflictError):
        objects.write_new("leases/one", b"yours")
    assert objects.read("leases/one", max_bytes=10).data == b"mine"


def test_write_if_replaces_only_what_was_read(objects: Objects) -> None:
    first = objects.write_new("leases/one", b"1")
    second = objects.write_if("leases/one", b"2", first)
    with pytest.raises(ConflictError):
        objects.write_if("leases/one", b"3", first)
    assert objects.read("leases/one", max_bytes=10).data == b"2"
    assert objects.write_if("leases/one", b"4", second) not in {first, second}


def test_write_if_does_not_create(objects: Objects) -> None:
    etag = objects.write_new("leases/one", b"1")
    objects.delete("leases/one")
    with pytest.raises(ConflictError):
        objects.write_if("leases/one", b"2", etag)
    assert objects.size("leases/one") is None


def test_one_of_32_racing_creators_wins(objects: Objects) -> None:
    assert len(_winners(lambda one: objects.write_new("race/new", b"%d" % one))) == 1


def test_one_of_32_racing_replacers_wins(objects: Objects) -> None:
    etag = objects.write("race/if", b"start")
    winners = _winners(lambda one: objects.write_if("race/if", b"%d" % one, etag))
    assert len(winners) == 1
    assert objects.read("race/if", max_bytes=10).data == b"%d" % winners[0]


def _winners(write: Callable[[int], str]) -> list[int]:
    together = threading.Barrier(32)

    def attempt(number: int) -> int | None:
        together.wait()
        try:
            write(number)
        except ConflictError:
            return None
        return number

    with ThreadPoolExecutor(32) as pool:
        return [one for one in pool.map(attempt, range(32)) if one is not None]


def test_concurrent_counting_loses_nothing(objects: Objects) -> None:
    objects.write("race/count", b"0")

    def add_one(_: int) -> None:
        while True:
            stored = objects.read("race/count", max_bytes=10)
            try:
                objects.write_if("race/count", b"%d" % (int(stored.data) + 1), stored.etag)
            except ConflictError:
                continue
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(24)))
    assert objects.read("race/count", max_bytes=10).data == b"24"


def test_write_file_stores_files_of_several_parts(objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(40 * 1024 * 1024 + 17)
    path.write_bytes(data)
    objects.write_file("packs/ab/large", path)
    assert path.read_bytes() == data
    assert objects.size("packs/ab/large") == len(data)
    assert objects.read_range("packs/ab/large", len(data) - 20, 20) == data[-20:]


def test_write_file_that_is_given_away_is_stored(objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    objects.write_file("packs/ab/taken", path, take=True)
    assert objects.read("packs/ab/taken", max_bytes=5).data == b"bytes"


def test_delete_is_final_and_may_be_repeated(objects: Objects) -> None:
    objects.write("x/one", b"1")
    objects.delete("x/one")
    objects.delete("x/one")
    assert objects.size("x/one") is None
    assert objects.entry("x/one") is None


def test_entries_lists_by_prefix_with_size_and_time(objects: Objects) -> None:
    before = time.time()
    for name, data in (("a/b/1", b"1"), ("a/b/22", b"22"), ("a/c", b"333"), ("b", b"")):
        objects.write(name, data)
    found = {entry.name: entry.size for entry in objects.entries("a/b/")}
    assert found == {"a/b/1": 1, "a/b/22": 2}
    assert {entry.name for entry in objects.entries("a/")} == {"a/b/1", "a/b/22", "a/c"}
    assert {entry.name for entry in objects.entries("a/b/2")} == {"a/b/22"}
    assert list(objects.entries("nothing/")) == []
    entry = objects.entry("a/c")
    assert entry is not None
    assert abs(entry.modified - before) < 120


@pytest.mark.slow
def test_entries_lists_more_than_one_page(objects: Objects) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: objects.write(f"many/{one:04d}", b"x"), range(1100)))
    assert len({entry.name for entry in objects.entries("many/")}) == 1100


def test_touch_makes_an_object_young_and_keeps_its_bytes(objects: Objects) -> None:
    objects.write("packs/aa/p", b"bytes")
    before = objects.entry("packs/aa/p")
    assert before is not None
    time.sleep(1.1)  # S3 gives whole seconds
    objects.touch("packs/aa/p")
    after = objects.entry("packs/aa/p")
    assert after is not None
    assert after.modified > before.modified
    assert objects.read("packs/aa/p", max_bytes=5).data == b"bytes"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "", "a\0b"])
def test_names_that_leave_the_store_are_refused(objects: Objects, name: str) -> None:
    with pytest.raises(TrustError, match="Unsafe path"):
        objects.write(name, b"x")
    with pytest.raises(TrustError, match="Unsafe path"):
        objects.read(name, max_bytes=1)


def test_sweep_removes_only_old_left_overs(objects: Objects) -> None:
    objects.write("x/one", b"1")
    assert objects.sweep(time.time() + 3600) == 0
    assert objects.read("x/one", max_bytes=1).data == b"1"
