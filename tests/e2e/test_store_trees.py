"""Folders into the store and out of it, in a directory and in a real S3."""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forge import canonical
from forge.errors import (
    ConfigurationError,
    ConflictError,
    CorruptedError,
    NotInStoreError,
    TrustError,
    UsageError,
)
from forge.store import Store, open_store
from forge.store.formats.chunk_list import decode
from forge.store.formats.names import files_name, pack_name, tree_name
from forge.store.maintenance.check import check_store, forget_result
from forge.store.maintenance.garbage import collect_garbage
from tests.support.seaweed import Seaweed
from tests.support.stores import action, fill, noise, packs, snapshot

MIB = 1024 * 1024
DAY_S = 86400.0


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    if request.param == "directory":
        return str(tmp_path / "store"), {}
    server: Seaweed = request.getfixturevalue("seaweedfs")
    return f"s3://{server.bucket()}/forge", server.environment


@pytest.fixture
def store(place: tuple[str, dict[str, str]], tmp_path: Path) -> Store:
    return open_store(place[0], environment=place[1], cache=tmp_path / "cache")


@pytest.fixture
def other(place: tuple[str, dict[str, str]], tmp_path: Path) -> Store:
    """The same store seen from another machine: its own cache."""
    return open_store(place[0], environment=place[1], cache=tmp_path / "other-cache")


def test_unpack_gives_back_what_was_put(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    reference = store.put_tree(folder)
    assert (reference.files, reference.size) == (5, 3 * MIB + 13 + 40_000 + 10)
    transfer = store.unpack(reference.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert transfer.fetched_bytes >= reference.size
    assert transfer.reused_bytes == 0
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out"]


def test_put_again_stores_nothing(store: Store, other: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    first = store.put(folder)
    assert (first.new_bytes, first.reused_bytes) == (first.reference.size, 0)
    for one in (store, other):
        again = one.put(folder)
        assert (again.new_bytes, again.reused_bytes) == (0, first.reference.size)
        assert again.reference == first.reference


def test_put_of_an_edited_file_stores_only_the_chunks_beside_the_edit(
    store: Store, other: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", large=8 * MIB)
    store.put(folder)
    model = folder / "engine" / "1" / "model.bin"
    data = model.read_bytes()
    model.write_bytes(data[: 4 * MIB] + b"inserted" + data[4 * MIB :])
    report = other.put(folder)
    assert 0 < report.new_bytes < MIB
    other.unpack(report.reference.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_equal_chunks_within_one_file_are_stored_and_fetched_once(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zeros").write_bytes(bytes(8 * MIB))
    (tmp_path / "in" / "twice").write_bytes(noise(2 * MIB) * 2)
    report = store.put(tmp_path / "in")
    assert report.new_bytes < 2 * MIB + MIB
    transfer = store.unpack(report.reference.digest, tmp_path / "out")
    assert transfer.fetched_bytes < 2 * MIB + 2 * MIB
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


def test_folders_larger_than_a_pack_make_several(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(noise(100 * MIB))
    report = store.put(tmp_path / "in")
    sizes = [entry.size for entry in store.objects.entries("packs/")]
    assert len(sizes) == 2
    assert max(sizes) <= 64 * MIB
    store.unpack(report.reference.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


def test_tree_document_is_canonical_and_named_by_its_digest(store: Store, tmp_path: Path) -> None:
    digest = store.put_tree(fill(tmp_path / "in")).digest
    data = store.objects.read(tree_name(digest), max_bytes=MIB).data
    assert canonical.sha256(data) == digest
    tree = store.tree(digest)
    assert tree.encode() == data
    paths = [entry.path for entry in tree.entries]
    assert paths == sorted(paths)
    assert {entry.path: entry.mode for entry in tree.entries}["run.sh"] == 0o755


def test_has_tree_says_what_is_there(store: Store, tmp_path: Path) -> None:
    digest = store.put_tree(fill(tmp_path / "in")).digest
    assert store.has_tree(digest)
    assert not store.has_tree("0" * 64)
    with pytest.raises(NotInStoreError):
        store.tree("0" * 64)
    with pytest.raises(NotInStoreError):
        store.unpack("0" * 64, tmp_path / "out")


def test_read_file_reads_one_file(store: Store, tmp_path: Path) -> None:
    digest = store.put_tree(fill(tmp_path / "in")).digest
    assert store.read_file(digest, "engine/config.json", max_bytes=100) == b'{"layers": 2}'
    assert store.read_file(digest, "empty", max_bytes=0) == b""
    assert store.read_file(digest, "tokenizer.txt", max_bytes=40_000) == noise(40_000, 1)
    with pytest.raises(NotInStoreError, match="No file nothing"):
        store.read_file(digest, "nothing", max_bytes=10)
    with pytest.raises(UsageError, match="more than 10"):
        store.read_file(digest, "tokenizer.txt", max_bytes=10)


def test_unpack_fetches_nothing_when_a_seed_has_everything(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    transfer = store.unpack(digest, tmp_path / "out", seeds=[folder])
    assert (transfer.fetched_bytes, transfer.requests) == (0, 0)
    assert snapshot(tmp_path / "out") == snapshot(folder)
    one, two = (base / "engine" / "1" / "model.bin" for base in (folder, tmp_path / "out"))
    assert one.stat().st_ino == two.stat().st_ino


def test_unpack_fetches_only_the_chunks_a_seed_lacks(store: Store, tmp_path: Path) -> None:
    old = fill(tmp_path / "old", large=8 * MIB)
    shutil.copytree(old, tmp_path / "new")
    model = tmp_path / "new" / "engine" / "1" / "model.bin"
    data = bytearray(model.read_bytes())
    data[4 * MIB : 4 * MIB + 5] = b"fresh"
    model.write_bytes(data)
    digest = store.put_tree(tmp_path / "new").digest
    transfer = store.unpack(digest, tmp_path / "out", seeds=[old])
    assert 0 < transfer.fetched_bytes < MIB
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "new")


def test_damaged_seed_is_not_used(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    shutil.copytree(folder, tmp_path / "seed")
    model = tmp_path / "seed" / "engine" / "1" / "model.bin"
    data = bytearray(model.read_bytes())
    data[100] ^= 1
    model.write_bytes(data)
    store.unpack(digest, tmp_path / "out", seeds=[tmp_path / "seed", tmp_path / "not-there"])
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_unpack_refuses_a_folder_that_is_not_empty(store: Store, tmp_path: Path) -> None:
    digest = store.put_tree(fill(tmp_path / "in")).digest
    (tmp_path / "out").mkdir()
    store.unpack(digest, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(ConfigurationError, match="not empty"):
        store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_unpack_uses_what_an_interrupted_one_left(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", large=16 * MIB)
    digest = store.put_tree(folder).digest
    partial = tmp_path / ".out.partial" / "engine" / "1"
    partial.mkdir(parents=True)
    data = (folder / "engine" / "1" / "model.bin").read_bytes()
    (partial / "model.bin").write_bytes(data[: 12 * MIB] + bytes(4 * MIB))
    transfer = store.unpack(digest, tmp_path / "out")
    assert transfer.reused_bytes > 11 * MIB
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert not list(tmp_path.glob(".out*"))


def test_progress_reaches_the_whole(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    reference = store.put_tree(
        fill(tmp_path / "in"), progress=lambda done, size: seen.append((done, size))
    )
    assert seen[-1] == (reference.size, reference.size)
    seen.clear()
    store.unpack(
        reference.digest, tmp_path / "out",
        progress=lambda done, size: seen.append((done, size)),
    )  # fmt: skip
    assert max(seen) == (reference.size, reference.size)


def test_two_threads_may_put_the_same_folder(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    with ThreadPoolExecutor(4) as pool:
        digests = {one.digest for one in pool.map(store.put_tree, [folder] * 4)}
    assert len(digests) == 1
    assert check_store(store).ok


def test_cache_that_is_ahead_of_the_store_does_no_harm(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    for kind in ("packs/", "files/", "trees/"):
        for entry in list(store.objects.entries(kind)):
            store.objects.delete(entry.name)
    assert store.put(folder).new_bytes == store.tree(digest).size
    assert check_store(store).ok
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_action_comes_back_as_it_was_put(store: Store, tmp_path: Path) -> None:
    result = action(store.put_tree(fill(tmp_path / "in")), log_tail="x" * 20_000 + "end")
    store.put_action(result)
    found = store.action(result.key)
    assert found == result
    assert found is not None
    assert len(found.log_tail) == 16 * 1024
    assert found.log_tail.endswith("end")
    assert store.action("1" * 64) is None


def test_recent_actions_are_newest_first(store: Store, tmp_path: Path) -> None:
    reference = store.put_tree(fill(tmp_path / "in"))
    for number in range(3):
        store.put_action(action(reference, key=f"{number}" * 64))
        time.sleep(1.1)  # S3 gives whole seconds
    assert [one.key[0] for one in store.recent_actions()] == ["2", "1", "0"]
    assert [one.key[0] for one in store.recent_actions(limit=2)] == ["2", "1"]


def test_one_of_8_machines_gets_the_lease(store: Store) -> None:
    together = threading.Barrier(8)
    inside: list[int] = []

    def build(number: int) -> bool:
        together.wait(60)
        try:
            with store.lease("key", owner=f"machine-{number}", ttl_s=30):
                inside.append(number)
                together.wait(60)
        except ConflictError as error:
            assert "machine-" in str(error)  # noqa: PT017  runs in a thread
            together.wait(60)
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(build, range(8))) == 1
    assert len(inside) == 1
    with store.lease("key", owner="later"):
        pass
    assert list(store.objects.entries("leases/")) == []


def test_garbage_collection_keeps_what_is_named_and_deletes_the_rest(
    store: Store, tmp_path: Path
) -> None:
    kept = store.put_tree(fill(tmp_path / "kept", seed=1))
    dead = store.put_tree(fill(tmp_path / "dead", seed=2))
    store.put_action(action(kept, key="a" * 64))
    store.put_action(action(dead, key="b" * 64))
    later = time.time() + 2 * DAY_S
    dry = collect_garbage(store, keep_trees=[kept.digest], grace_s=DAY_S, now=later, dry_run=True)
    assert store.has_tree(dead.digest)
    report = collect_garbage(store, keep_trees=[kept.digest], grace_s=DAY_S, now=later)
    assert report.as_json()["deleted"] == dry.as_json()["deleted"]
    assert report.deleted["trees"].objects == 1
    assert report.deleted["actions"].objects == 1
    assert report.bytes > 3 * MIB
    assert not store.has_tree(dead.digest)
    assert store.action("a" * 64) is not None
    assert store.action("b" * 64) is None
    assert check_store(store).ok
    store.unpack(kept.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "kept")


def test_garbage_collection_keeps_named_results_and_what_they_made(
    store: Store, tmp_path: Path
) -> None:
    """So that the newest release can be repeated without building anything."""
    made = store.put_tree(fill(tmp_path / "made", seed=1))
    dead = store.put_tree(fill(tmp_path / "dead", seed=2))
    store.put_action(action(made, key="a" * 64))
    store.put_action(action(dead, key="b" * 64))
    later = time.time() + 2 * DAY_S
    collect_garbage(store, keep_trees=[], keep_actions=["a" * 64], grace_s=DAY_S, now=later)
    assert store.action("a" * 64) is not None
    assert store.action("b" * 64) is None
    assert store.has_tree(made.digest)
    assert not store.has_tree(dead.digest)
    assert check_store(store).ok
    store.unpack(made.digest, tmp_path / "out")


@pytest.mark.parametrize("stray", ["trees/note.json~", "packs/ab/x", "files/x", "actions/x.json"])
def test_stray_object_is_named_and_left_alone(store: Store, tmp_path: Path, stray: str) -> None:
    kept = store.put_tree(fill(tmp_path / "kept", seed=1))
    dead = store.put_tree(fill(tmp_path / "dead", seed=2))
    store.objects.write(stray, b"somebody's note")
    later = time.time() + 2 * DAY_S
    report = collect_garbage(store, keep_trees=[kept.digest], grace_s=DAY_S, now=later)
    assert report.foreign == (stray,)
    found = check_store(store, repair=True)
    assert [one.name for one in found.problems] == [stray]
    assert found.remaining == found.problems
    assert "move it out of the store" in found.problems[0].reason
    assert found.deleted == ()
    assert store.objects.read(stray, max_bytes=99).data == b"somebody's note"
    assert not store.has_tree(dead.digest)
    assert store.has_tree(kept.digest)
    store.put_tree(fill(tmp_path / "more", seed=3))
    store.unpack(kept.digest, tmp_path / "out")


def test_forgotten_result_takes_its_damage_along(store: Store, tmp_path: Path) -> None:
    """The hook of the scheduler: a step whose output cannot be unpacked runs again."""
    folder, other = fill(tmp_path / "in", seed=1), fill(tmp_path / "other", seed=2)
    made, sound = store.put_tree(folder), store.put_tree(other)
    store.put_action(action(made, key="a" * 64))
    store.put_action(action(sound, key="b" * 64))
    pack = _pack_of(store, made.digest)
    _damage(store, pack, 1000)
    with pytest.raises(CorruptedError) as caught:
        store.unpack(made.digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    deleted = forget_result(store, "a" * 64)
    assert pack in deleted
    assert f"actions/{'a' * 64}.json" in deleted
    assert store.action("a" * 64) is None
    assert not store.has_tree(made.digest)
    assert store.put_tree(folder) == made  # the step ran again
    store.unpack(made.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert store.action("b" * 64) is not None
    store.unpack(sound.digest, tmp_path / "out other")
    assert check_store(store).ok


def test_forgetting_a_sound_result_keeps_its_tree(store: Store, tmp_path: Path) -> None:
    made = store.put_tree(fill(tmp_path / "in"))
    store.put_action(action(made, key="a" * 64))
    assert forget_result(store, "a" * 64) == (f"actions/{'a' * 64}.json",)
    assert forget_result(store, "a" * 64) == ()
    assert store.has_tree(made.digest)
    assert check_store(store).ok


def test_garbage_collection_deletes_nothing_young(store: Store, tmp_path: Path) -> None:
    reference = store.put_tree(fill(tmp_path / "in"))
    store.put_action(action(reference))
    report = collect_garbage(store, keep_trees=[], grace_s=DAY_S, now=time.time())
    assert sum(one.objects for one in report.deleted.values()) == 0
    assert check_store(store).ok


def test_put_after_collection_stores_again(store: Store, other: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    collect_garbage(other, keep_trees=[], grace_s=0, now=time.time() + 10)
    assert not store.has_tree(digest)
    assert list(packs(store)) == []
    assert store.put(folder).new_bytes == store.tree(digest).size
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_collection_and_writers_keep_each_other_out(
    store: Store, other: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in")
    with store.writing("build-1"):
        store.put_tree(folder)
        with pytest.raises(ConflictError, match="build-1"):
            collect_garbage(other, keep_trees=[], grace_s=0, now=time.time() + 10)
        with other.writing("build-2"):  # writers do not mind each other
            other.put_tree(folder)
    with other.lease("gc", owner="collector"):
        with pytest.raises(ConflictError, match="collector"):
            store.put_tree(folder)
        with pytest.raises(ConflictError, match="collector"), store.writing("build-3"):
            pass
    collect_garbage(other, keep_trees=[], grace_s=0, now=time.time() + 10)


def test_verify_finds_nothing_wrong_in_a_sound_store(store: Store, tmp_path: Path) -> None:
    store.put_action(action(store.put_tree(fill(tmp_path / "in"))))
    report = check_store(store)
    assert report.ok
    assert report.objects == 4 + 2 + 1 + 1 - 1  # packs, lists, tree, action; one pack for both


def test_tree_path_that_leads_out_is_refused(store: Store, tmp_path: Path) -> None:
    entry = {"mode": 0o644, "path": "../../evil", "sha256": "0" * 64, "size": 0}
    data = canonical.dumps({"entries": [entry], "schema_version": 1})
    digest = canonical.sha256(data)
    store.objects.write(tree_name(digest), data)
    with pytest.raises(TrustError, match="evil") as caught:
        store.unpack(digest, tmp_path / "deep" / "out")
    assert caught.value.exit_code == 7
    assert not (tmp_path / "deep" / "out").exists()
    assert not list(tmp_path.rglob("evil"))


def test_damaged_tree_is_refused_and_healed_by_the_next_put(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    data = store.objects.read(tree_name(digest), max_bytes=MIB).data
    store.objects.write(tree_name(digest), data.replace(b"run.sh", b"rum.sh"))
    with pytest.raises(CorruptedError, match=digest) as caught:
        store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert "forge store verify --repair" in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not store.has_tree(digest)  # so that the plan builds it again
    store.put_tree(folder)
    assert store.has_tree(digest)
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_damaged_action_is_a_miss_and_replaced(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = action(store.put_tree(fill(tmp_path / "in")))
    store.put_action(result)
    store.objects.write(f"actions/{result.key}.json", result.encode()[:-20])
    assert store.action(result.key) is None
    assert "damaged" in caplog.text
    assert [one.name for one in check_store(store).problems] == [f"actions/{result.key}.json"]
    store.put_action(result)
    assert store.action(result.key) == result


def test_action_of_another_key_is_a_miss(store: Store, tmp_path: Path) -> None:
    result = action(store.put_tree(fill(tmp_path / "in")))
    store.objects.write(f"actions/{'c' * 64}.json", result.encode())
    assert store.action("c" * 64) is None


def _pack_of(store: Store, digest: str) -> str:
    """The pack of a tree's largest file."""
    largest = max(store.tree(digest).entries, key=lambda entry: entry.size)
    data = store.objects.read(files_name(largest.sha256), max_bytes=MIB).data
    return pack_name(decode(data, size=largest.size, name="x").packs[0].hex())


def _damage(store: Store, name: str, at: int) -> None:
    size = store.objects.size(name)
    assert size is not None
    data = bytearray(store.objects.read(name, max_bytes=size).data)
    data[at] ^= 0x40
    store.objects.write(name, bytes(data))


def test_damaged_chunk_is_never_served_and_healed_by_repair_and_put(
    store: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    pack = next(packs(store))
    _damage(store, pack, 1_000_000)
    with pytest.raises(CorruptedError, match=r"chunk [0-9a-f]{64}") as caught:
        store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert pack in str(caught.value)
    assert "forge store verify --repair" in str(caught.value)
    assert not (tmp_path / "out").exists()
    report = check_store(store, repair=True)
    assert pack in {one.name for one in report.problems}
    assert pack in report.deleted
    assert not store.has_tree(digest)  # so that the plan builds it again
    assert check_store(store).ok
    store.put_tree(folder)
    assert check_store(store).ok
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_damaged_chunk_is_taken_from_a_seed(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    _damage(store, next(packs(store)), 1_000_000)
    store.unpack(digest, tmp_path / "out", seeds=[folder])
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_repair_takes_lost_files_from_a_folder(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    _damage(store, next(packs(store)), 1_000_000)
    report = check_store(store, repair=True, repair_from=[folder])
    assert not report.ok
    assert report.restored > 0
    assert check_store(store).ok
    assert store.has_tree(digest)
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


@pytest.mark.parametrize("kind", ["packs/", "files/", "trees/"])
def test_any_lost_object_is_found_refused_and_healed(
    store: Store, tmp_path: Path, kind: str
) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    store.objects.delete(next(iter(store.objects.entries(kind))).name)
    with pytest.raises((CorruptedError, NotInStoreError)) as caught:
        store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert not (tmp_path / "out").exists()
    store.put_tree(folder)
    assert check_store(store).ok
    store.unpack(digest, tmp_path / "out")


def test_damaged_small_file_is_never_served(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    smallest = list(packs(store))[-1]
    _damage(store, smallest, 0)
    with pytest.raises(CorruptedError, match=smallest) as caught:
        store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert not (tmp_path / "out").exists()
    report = check_store(store, repair=True)
    assert smallest in report.deleted
    assert report.remaining == ()
    assert check_store(store).ok
    store.put_tree(folder)
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_damaged_chunk_list_is_refused_and_healed(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    for entry in list(store.objects.entries("files/")):
        _damage(store, entry.name, entry.size // 2)
    with pytest.raises(CorruptedError, match="files/") as caught:
        store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert "forge store verify --repair" in str(caught.value)
    assert not (tmp_path / "out").exists()
    store.put_tree(folder)
    assert check_store(store).ok
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_put_refuses_a_pipe(store: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    (folder / "pipe").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ConfigurationError, match="pipe is a device, pipe or socket"):
        store.put_tree(folder)
    assert list(store.objects.entries("trees/")) == []
