"""Each kind of damage is found and named, and repairing deletes exactly what is damaged."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import ConflictError
from forge.store import Store
from forge.store.formats.action import action_name
from forge.store.formats.names import files_name, pack_name, signed_name, tree_name
from forge.store.formats.signed_result import result_statement
from forge.store.locks.writers import collecting
from forge.store.maintenance import check
from forge.store.maintenance.check import Verifier, check_store, forget_result
from tests.support.memory_stores import memory_store, names
from tests.support.stores import KEY, action, fill, noise, packs, snapshot
from tests.support.trusted_builders import made, signer

SMALL_DIGEST = hashlib.sha256(b"#!/bin/sh\n").hexdigest()  # of run.sh
OTHER = "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return memory_store(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", large=400_000)


@pytest.fixture
def digest(store: Store, folder: Path) -> str:
    """A stored tree and a result that has it."""
    reference = store.put_tree(folder)
    store.put_action(action(reference))
    return reference.digest


def data_of(store: Store, name: str) -> bytes:
    return store.objects.read(name, max_bytes=10**7).data


def flip(store: Store, name: str, at: int = -1) -> str:
    data = bytearray(data_of(store, name))
    data[at] ^= 1
    store.objects.write(name, bytes(data))
    return name


def first(store: Store, kind: str) -> str:
    return min(names(store, kind))


def large_list(store: Store) -> str:
    return max(names(store, "files/"), key=lambda name: len(data_of(store, name)))


# Each damages one object and returns the name that must be reported and a part of the reason.
def damaged_pack(store: Store) -> tuple[str, str]:
    return flip(store, next(packs(store))), "hash to"


def short_pack(store: Store) -> tuple[str, str]:
    name = next(packs(store))
    store.objects.write(name, data_of(store, name)[:-1])
    return name, "hash to"


def misplaced_pack(store: Store) -> tuple[str, str]:
    name = f"packs/ff/{SMALL_DIGEST}"
    store.objects.write(name, b"#!/bin/sh\n")
    return name, "folder"


def garbage_list(store: Store) -> tuple[str, str]:
    name = large_list(store)
    store.objects.write(name, b"not a list")
    return name, ""


def list_of_another_file(store: Store) -> tuple[str, str]:
    name, other = files_name(OTHER), large_list(store)
    store.objects.write(name, data_of(store, other))
    return name, other.removeprefix("files/")


def changed_list(store: Store) -> str:
    """A list that is well-formed, with one bit of a chunk's digest flipped."""
    name = large_list(store)
    data = data_of(store, name)
    body = bytearray(zlib.decompress(data[24:]))
    body[-1 - 12 * int.from_bytes(data[16:20], "little")] ^= 1
    store.objects.write(name, data[:24] + zlib.compress(bytes(body)))
    return name


def wrong_chunk(store: Store) -> tuple[str, str]:
    return changed_list(store), "chunk"


def damaged_tree(store: Store) -> tuple[str, str]:
    return flip(store, first(store, "trees/")), "digest"


def damaged_action(store: Store) -> tuple[str, str]:
    store.objects.write(action_name(KEY), b"{}")
    return action_name(KEY), "result"


def action_of_another_key(store: Store) -> tuple[str, str]:
    store.objects.write(action_name(OTHER), data_of(store, action_name(KEY)))
    return action_name(OTHER), "result"


DAMAGES = [
    damaged_pack, short_pack, misplaced_pack, garbage_list, list_of_another_file, wrong_chunk,
    damaged_tree, damaged_action, action_of_another_key,
]  # fmt: skip


@pytest.mark.usefixtures("digest")
def test_a_sound_store_has_no_problems_and_all_of_it_is_read(store: Store) -> None:
    report = check_store(store)
    entries = [one for one in store.objects.entries("") if not one.name.startswith("leases/")]
    assert report.ok
    assert (report.problems, report.remaining, report.deleted) == ((), (), ())
    assert report.objects == len(entries) == 7
    assert report.bytes == sum(one.size for one in entries)
    assert report.as_json()["ok"] is True


@pytest.mark.usefixtures("digest")
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_kind_of_damage_is_found(
    store: Store, damage: Callable[[Store], tuple[str, str]]
) -> None:
    name, reason = damage(store)
    report = check_store(store)
    assert not report.ok
    found = {one.name: one.reason for one in report.problems}
    assert reason in found[name]
    assert not any(one.foreign for one in report.problems)


@pytest.mark.usefixtures("digest")
def test_what_cannot_be_made_without_a_damaged_pack_is_a_problem_too(store: Store) -> None:
    name, _ = damaged_pack(store)
    found = {one.name: one.reason for one in check_store(store).problems}
    assert large_list(store) in found
    assert name.rpartition("/")[2] in found[large_list(store)]
    assert first(store, "trees/") in found
    assert action_name(KEY) not in found  # its tree can be put again


@pytest.mark.usefixtures("digest")
@pytest.mark.parametrize("kind", ["small", "list", "pack"])
def test_a_missing_object_is_found_where_it_is_referred_to(store: Store, kind: str) -> None:
    lost = {
        "small": pack_name(SMALL_DIGEST),
        "list": large_list(store),
        "pack": next(packs(store)),
    }[kind]
    store.objects.delete(lost)
    reasons = [one.reason for one in check_store(store).problems]
    assert any(lost.rpartition("/")[2] in reason for reason in reasons)
    assert any("engine/1/model.bin" in reason or "run.sh" in reason for reason in reasons)


@pytest.mark.usefixtures("digest")
def test_a_pack_beyond_the_limit_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MAX_PACK_BYTES", 300_000)
    found = {one.name: one.reason for one in check_store(store).problems}
    assert "300000" in found[next(packs(store))]


@pytest.mark.usefixtures("digest")
@pytest.mark.parametrize("name", ["packs/README", "trees/x.json", "actions/.keep", "files/a/b"])
def test_another_program_s_file_is_named_and_never_deleted(store: Store, name: str) -> None:
    store.objects.write(name, b"mine")
    report = check_store(store, repair=True)
    assert [(one.name, one.foreign) for one in report.problems] == [(name, True)]
    assert [one.name for one in report.remaining] == [name]
    assert report.deleted == ()
    assert name in names(store)


@pytest.mark.usefixtures("digest")
def test_an_object_that_is_deleted_after_the_listing_is_no_problem(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.objects.write(action_name(OTHER), b"")
    gone = store.objects.entry(action_name(OTHER))
    assert gone is not None
    store.objects.delete(gone.name)
    entries = store.objects.entries
    monkeypatch.setattr(
        store.objects,
        "entries",
        lambda kind: [*entries(kind), *([gone] if gone.name.startswith(kind) else [])],
    )
    assert check_store(store).ok


def test_only_one_tree_and_its_parts_are_read(store: Store, digest: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(noise(100, 9))
    other = store.put_tree(tmp_path / "other").digest
    flip(store, pack_name(hashlib.sha256(noise(100, 9)).hexdigest()))
    assert Verifier(store, None).tree(digest).ok
    assert not Verifier(store, None).tree(other).ok
    flip(store, next(packs(store)))
    found = {one.name for one in Verifier(store, None).tree(digest).problems}
    assert found == {next(packs(store)), *names(store, "files/"), tree_name(digest)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_repairing_deletes_the_damage_and_a_put_brings_all_back(
    store: Store, folder: Path, digest: str, damage: Callable[[Store], tuple[str, str]],
    tmp_path: Path,
) -> None:  # fmt: skip
    name, _ = damage(store)
    report = check_store(store, repair=True)
    assert name in report.deleted
    assert not set(report.deleted) & names(store)
    assert report.remaining == ()
    assert check_store(store).ok
    assert store.put_tree(folder).digest == digest
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_without_repair_nothing_is_deleted(store: Store, digest: str) -> None:
    flip(store, next(packs(store)))
    before = names(store)
    assert tree_name(digest) in {one.name for one in check_store(store).problems}
    assert names(store) == before


def test_lost_files_come_back_from_a_folder(
    store: Store, folder: Path, digest: str, tmp_path: Path
) -> None:
    store.objects.delete(pack_name(SMALL_DIGEST))
    flip(store, next(packs(store)))
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.parent.mkdir()
    (folder).rename(elsewhere)
    (elsewhere / "run.sh").rename(elsewhere / "renamed")
    report = check_store(store, repair=True, repair_from=[tmp_path / "none", elsewhere.parent])
    assert report.as_json()["healed"] == 5  # every file of the tree
    assert report.remaining == ()
    assert store.has_tree(digest)
    assert check_store(store).ok


def test_a_file_of_the_right_size_and_other_bytes_brings_nothing_back(
    store: Store, digest: str, tmp_path: Path
) -> None:
    store.objects.delete(pack_name(SMALL_DIGEST))
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "run.sh").write_bytes(b"#!/bin/su\n")
    report = check_store(store, repair=True, repair_from=[tmp_path / "wrong"])
    assert report.as_json()["healed"] == 0
    assert tree_name(digest) in report.deleted


@pytest.mark.usefixtures("digest")
def test_nothing_is_repaired_while_garbage_is_collected(store: Store) -> None:
    name = flip(store, next(packs(store)))
    with collecting(store.objects, "host:7", store.clock):
        with pytest.raises(ConflictError, match="host:7"):
            check_store(store, repair=True)
        with pytest.raises(ConflictError, match="host:7"):
            forget_result(store, KEY)
    assert name in names(store)
    assert action_name(KEY) in names(store)


def test_a_forgotten_result_leaves_a_sound_tree(store: Store, digest: str) -> None:
    assert forget_result(store, KEY) == (action_name(KEY),)
    assert store.action(KEY) is None
    assert Verifier(store, None).tree(digest).ok
    assert store.has_tree(digest)
    assert forget_result(store, KEY) == ()


def test_a_forgotten_result_takes_the_damage_of_its_tree_along(store: Store, digest: str) -> None:
    pack = flip(store, next(packs(store)))
    damaged = {pack, *names(store, "files/"), tree_name(digest), action_name(KEY)}
    before = names(store)
    assert set(forget_result(store, KEY)) == damaged
    assert names(store) == before - damaged


def test_a_damaged_result_is_forgotten(store: Store) -> None:
    store.objects.write(action_name(KEY), b"{")
    assert forget_result(store, KEY) == (action_name(KEY),)


@pytest.mark.parametrize("data", [b"", b"{}", b"x" * 100])
def test_signed_result_that_is_damaged_is_found_and_deleted(store: Store, data: bytes) -> None:
    name = signed_name("hosted", KEY)
    whole = signer("hosted").sign(result_statement(made(KEY), "hosted"))
    store.put_signed_result("hosted", KEY, whole)
    assert check_store(store).problems == ()
    store.put_signed_result("hosted", KEY, data)
    assert [one.name for one in check_store(store).problems] == [name]
    assert check_store(store, repair=True).deleted == (name,)
    assert names(store, "signed/") == set()


def test_signed_result_under_the_name_of_another_key_is_found(store: Store) -> None:
    whole = signer("hosted").sign(result_statement(made(KEY), "hosted"))
    store.put_signed_result("hosted", OTHER, whole)
    (problem,) = check_store(store).problems
    assert problem.reason == f"it contains the result of {KEY}"
