"""The one object that the rest of Forge uses: trees by digest, results by key, writers' marks."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.bundle import TreeReference
from forge.errors import (
    ConfigurationError,
    ConflictError,
    CorruptedError,
    NotInStoreError,
    UsageError,
)
from forge.store import Entry, Store, open_store
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.mirrors import Mirrors
from forge.store.formats.action import action_name
from forge.store.formats.names import files_name, tree_name
from forge.store.formats.tree import scan
from forge.store.locks.writers import collecting
from forge.store.maintenance.check import check_store
from forge.store.upload.chunk_index import index_path
from tests.support.memory_stores import Place, memory_store, names
from tests.support.stores import KEY, Hands, action, fill, noise, snapshot

OTHER = "0" * 64


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def store(tmp_path: Path, hands: Hands) -> Store:
    return memory_store(tmp_path / "cache", hands)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", large=300_000)


def test_what_is_put_is_unpacked(store: Store, folder: Path, tmp_path: Path) -> None:
    report = store.put(folder)
    reference = store.put_tree(folder)
    assert reference == report.reference
    assert reference.digest == hashlib.sha256(store.tree(reference.digest).encode()).hexdigest()
    assert [entry.path for entry in store.tree(reference.digest).entries] == sorted(
        snapshot(folder)
    )
    store.unpack(reference.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_files_without_a_tree_are_stored(store: Store, folder: Path) -> None:
    store.put_files(scan(folder))
    assert names(store, "trees/") == set()
    before = names(store)
    assert store.put(folder).new_bytes == 0
    assert names(store) - before == names(store, "trees/")


def test_opening_a_store_contacts_and_makes_nothing(tmp_path: Path) -> None:
    url, cache = str(tmp_path / "store"), tmp_path / "cache"
    store = open_store(url, environment={}, cache=cache)
    assert store.url == url
    assert isinstance(store.objects, DirectoryObjects)
    assert isinstance(open_store(url, mirrors=[url], cache=cache).objects, Mirrors)
    assert list(tmp_path.iterdir()) == []


def test_the_index_is_in_the_cache_folder_and_only_for_larger_files(
    store: Store, tmp_path: Path
) -> None:
    path = index_path(tmp_path / "cache", store.url)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "file").write_bytes(b"x")
    store.put(tmp_path / "small")
    assert not path.exists()
    (tmp_path / "small" / "file").write_bytes(noise(20_000))
    store.put(tmp_path / "small")
    assert path.exists()


def test_the_cache_folder_of_the_environment_is_used(tmp_path: Path, folder: Path) -> None:
    environment = {"FORGE_CACHE": str(tmp_path / "mine")}
    store = open_store(str(tmp_path / "store"), environment=environment)
    store.put(folder)
    assert index_path(tmp_path / "mine", store.url).exists()


@pytest.mark.parametrize("digest", ["", "x", "../x", "A" * 64])
def test_what_is_not_a_digest_is_a_wrong_use(store: Store, tmp_path: Path, digest: str) -> None:
    for use in (
        lambda: store.tree(digest),
        lambda: store.has_tree(digest),
        lambda: store.unpack(digest, tmp_path / "out"),
        lambda: store.read_file(digest, "x", max_bytes=1),
        lambda: store.action(digest),
    ):
        with pytest.raises(UsageError, match="64 hexadecimal digits"):
            use()


def test_a_missing_tree_is_said_to_be_missing(store: Store, tmp_path: Path) -> None:
    assert not store.has_tree(OTHER)
    for use in (
        lambda: store.tree(OTHER),
        lambda: store.unpack(OTHER, tmp_path / "out"),
        lambda: store.read_file(OTHER, "x", max_bytes=1),
    ):
        with pytest.raises(NotInStoreError, match=OTHER) as caught:
            use()
        assert store.url in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [b"", b"{}", b"x" * 1000])
def test_a_damaged_tree_is_not_there_and_not_used(
    store: Store, folder: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    digest = store.put_tree(folder).digest
    store.objects.write(tree_name(digest), data)
    with caplog.at_level(logging.WARNING):
        assert not store.has_tree(digest)
    assert tree_name(digest) in caplog.text
    with pytest.raises(CorruptedError, match=digest):
        store.tree(digest)


def test_a_tree_that_came_damaged_is_read_again(tmp_path: Path, folder: Path) -> None:
    place = Place()
    store = Store(place, cache=tmp_path / "cache")
    digest = store.put_tree(folder).digest
    expected = store.tree(digest)
    place.damaged[tree_name(digest)] = 1
    assert store.tree(digest) == expected
    place.damaged[tree_name(digest)] = 1
    assert store.has_tree(digest)
    place.damaged[tree_name(digest)] = 2
    assert not store.has_tree(digest)


def test_one_file_is_read_and_bounded(store: Store, folder: Path) -> None:
    digest = store.put_tree(folder).digest
    for path, (data, _) in snapshot(folder).items():
        assert store.read_file(digest, path, max_bytes=len(data)) == data
        if data:
            with pytest.raises(UsageError, match=f"{len(data)} bytes") as caught:
                store.read_file(digest, path, max_bytes=len(data) - 1)
            assert path in caught.value.what
    with pytest.raises(NotInStoreError, match=r"nothing\.txt") as caught_missing:
        store.read_file(digest, "nothing.txt", max_bytes=1)
    assert digest in caught_missing.value.what


def test_a_result_comes_back_and_a_later_one_replaces_it(store: Store) -> None:
    assert store.action(KEY) is None
    reference = TreeReference(digest=OTHER, size=0, files=1)
    for seconds in (1.0, 2.0):
        store.put_action(action(reference, seconds=seconds))
        found = store.action(KEY)
        assert found is not None
        assert found.seconds == seconds
    assert names(store) == {action_name(KEY)}


@pytest.mark.parametrize("data", [b"{", b"x" * (1024 * 1024 + 1)], ids=["damaged", "too-large"])
def test_a_damaged_result_is_none_and_a_warning(
    store: Store, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.objects.write(action_name(KEY), data)
    with caplog.at_level(logging.WARNING):
        assert store.action(KEY) is None
    assert KEY in caplog.text


def test_recent_results_are_the_newest_sound_ones_newest_first(store: Store, hands: Hands) -> None:
    reference = TreeReference(digest=OTHER, size=0, files=1)
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    for key in keys:
        hands.time += 1
        store.put_action(action(reference, key))
    hands.time += 1
    store.objects.write(action_name(OTHER), b"{")
    store.objects.write("actions/notes.txt", b"mine")
    assert [one.key for one in store.recent_actions()] == keys[::-1]
    assert [one.key for one in store.recent_actions(3)] == keys[:2:-1]  # the damaged one counts


def test_a_put_makes_a_writer_s_mark_and_takes_it_away(store: Store, folder: Path) -> None:
    seen: list[set[str]] = []
    store.put(folder, progress=lambda _done, _all: seen.append(names(store, "leases/writers/")))
    assert seen
    assert all(len(found) == 1 for found in seen)
    assert names(store, "leases/") == set()


def test_within_writing_no_second_mark_is_made(store: Store, folder: Path) -> None:
    seen: list[set[str]] = []
    with store.writing("host:7") as lease, store.as_writer() as again:
        assert again is lease
        store.put(folder, progress=lambda _done, _all: seen.append(names(store, "leases/writers/")))
    assert all(found == {lease.name} for found in seen)
    with store.as_writer() as other:
        assert other is not lease


def test_nothing_is_put_while_garbage_is_collected(store: Store, folder: Path) -> None:
    with (
        collecting(store.objects, "host:7", store.clock),
        pytest.raises(ConflictError, match="host:7"),
    ):
        store.put(folder)
    assert names(store) == set()


def test_a_writer_that_lost_its_mark_writes_no_tree(
    store: Store, folder: Path, hands: Hands
) -> None:
    def stand_still(_done: int, _all: int) -> None:
        hands.time += 61

    with pytest.raises(ConflictError, match="lost"):
        store.put(folder, progress=stand_still)
    assert names(store, "trees/") == set()


def test_a_folder_that_cannot_be_a_tree_makes_no_mark(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        store.put(tmp_path / "none")
    assert names(store) == set()


def test_a_lease_has_one_holder(store: Store, hands: Hands) -> None:
    told: list[str] = []
    with store.lease("step", owner="a:1"):
        with (
            pytest.raises(ConflictError, match="a:1"),
            store.lease("step", owner="b:1", wait_s=2, waiting=lambda who, _: told.append(who)),
        ):
            pass
        with store.lease("other", owner="b:1"):
            pass
    assert told == ["a:1"]
    assert hands.time > Hands().time  # it waited on the store's clock
    with store.lease("step", owner="b:1") as lease:
        assert lease.held()


def test_the_chunk_lists_are_read_once_per_store(tmp_path: Path, folder: Path) -> None:
    place = Place()
    Store(place, cache=tmp_path / "first").put(folder)
    place.asked.clear()
    listings, entries = list[str](), place.entries

    def listing(prefix: str) -> Iterator[Entry]:
        listings.append(prefix)
        return entries(prefix)

    place.entries = listing  # type: ignore[method-assign]
    store = Store(place, cache=tmp_path / "second")
    (tmp_path / "new").mkdir()
    for number in range(3):
        (tmp_path / "new" / "file").write_bytes(noise(20_000, number + 7))
        store.put(tmp_path / "new")
    assert listings.count("files/") == 1
    read = [name for method, name in place.asked if method == "read" and "files/" in name]
    digests = {hashlib.sha256(data).hexdigest() for data, _ in snapshot(folder).values()}
    assert sorted(read) == sorted(
        name for name in names(store, "files/") if name in {files_name(one) for one in digests}
    )


def test_threads_may_put_at_once(store: Store, tmp_path: Path) -> None:
    folders = [fill(tmp_path / str(number), large=100_000, seed=number) for number in range(3)]
    found: dict[int, str] = {}

    def put(number: int) -> None:
        found[number] = store.put_tree(folders[number]).digest

    threads = [threading.Thread(target=put, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(found.values())) == 3
    assert check_store(store).ok
