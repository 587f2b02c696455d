"""Garbage collection keeps what is reachable or young, exactly, and deletes in a safe order."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.bundle import TreeReference
from forge.errors import ConflictError, CorruptedError
from forge.store import Store
from forge.store.formats.action import action_name
from forge.store.formats.chunk_list import decode
from forge.store.formats.names import files_name, pack_name, signed_name, tree_name
from forge.store.formats.signed_result import result_statement
from forge.store.formats.tree import SMALL
from forge.store.locks.leases import LeaseRecord
from forge.store.locks.writers import COLLECTOR
from forge.store.maintenance.garbage import Collector, GarbageReport, collect_garbage
from tests.support.memory_stores import memory_store, names
from tests.support.stores import KEY, Hands, action, noise
from tests.support.trusted_builders import made, signer

DAY_S = 86400.0
FILES = {  # shared by several trees
    "a": b"small a", "b": b"small b", "c": noise(100_000, 1), "d": noise(100_000, 2), "e": b"",
}  # fmt: skip
keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]


def put(store: Store, contents: str) -> str:
    """A tree of some of FILES."""
    with tempfile.TemporaryDirectory() as name:
        for one in contents:
            Path(name, one).write_bytes(FILES[one])
        return store.put_tree(Path(name)).digest


def reachable(store: Store, trees: set[str]) -> set[str]:
    """What the trees need, by reading them here."""
    found = set()
    for digest in trees:
        found.add(tree_name(digest))
        for one in store.tree(digest).entries:
            if one.size > SMALL:
                name = files_name(one.sha256)
                data = store.objects.read(name, max_bytes=99_999).data
                packs = decode(data, size=one.size, name=name).packs
                found |= {name, *(pack_name(pack.hex()) for pack in packs)}
            elif one.size:
                found.add(pack_name(one.sha256))
    return found


def collect(
    store: Store, trees: set[str] | None = None, *, dry_run: bool = False, grace_s: float = DAY_S,
    actions: tuple[str, ...] = (),
) -> GarbageReport:  # fmt: skip
    return collect_garbage(
        store, keep_trees=trees or set(), keep_actions=actions, grace_s=grace_s,
        now=store.clock.now(), dry_run=dry_run,
    )  # fmt: skip


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def store(hands: Hands, tmp_path: Path) -> Store:
    return memory_store(tmp_path / "cache", hands)


@settings(max_examples=25)
@given(
    contents=st.lists(st.text("abcde", min_size=1, max_size=4), min_size=1, max_size=4),
    kept=st.sets(st.integers(0, 3)),
    young=st.booleans(),
)
def test_exactly_what_is_reachable_stays(
    tmp_path_factory: pytest.TempPathFactory, contents: list[str], kept: set[int], *, young: bool
) -> None:
    hands = Hands()
    store = memory_store(tmp_path_factory.mktemp("cache"), hands)
    digests = [put(store, "".join(sorted(set(one)))) for one in contents]
    hands.time += 2 * DAY_S
    trees = {digests[number] for number in kept if number < len(digests)}
    if young:  # one more that is not named
        trees |= {put(store, "ac")}
        named = trees - {put(store, "ac")}
    else:
        named = trees
    expected = reachable(store, trees)
    before = {one.name: one.size for one in store.objects.entries("")}
    planned = collect(store, named, dry_run=True)
    assert names(store) == set(before)
    report = collect(store, named)
    assert names(store) == expected
    assert (
        report.bytes
        == planned.bytes
        == sum(before.values()) - sum(size for name, size in before.items() if name in expected)
    )
    assert report.kept_objects == planned.kept_objects == len(expected) + 1  # its own lease
    assert sum(one.objects for one in report.deleted.values()) == len(before) - len(expected)
    assert (planned.dry_run, report.dry_run) == (True, False)


@pytest.mark.parametrize(("age", "stays"), [(DAY_S, True), (DAY_S + 1, False)])
def test_what_is_as_old_as_the_grace_period_stays(
    store: Store, hands: Hands, age: float, *, stays: bool
) -> None:
    put(store, "abc")
    before = names(store)
    hands.time += age
    collect(store)
    assert names(store) == (before if stays else set())


def test_a_young_chunk_list_without_a_tree_keeps_its_packs(store: Store, hands: Hands) -> None:
    digest = put(store, "c")
    expected = reachable(store, {digest}) - {tree_name(digest)}
    hands.time += 2 * DAY_S
    for name in names(store, "files/"):
        store.objects.touch(name)
    collect(store)
    assert names(store) == expected


def test_a_young_result_keeps_its_old_tree(store: Store, hands: Hands) -> None:
    digest = put(store, "ac")
    hands.time += 2 * DAY_S
    store.put_action(action(store.tree(digest).reference()))
    expected = reachable(store, {digest}) | {action_name(KEY)}
    collect(store)
    assert names(store) == expected


def test_a_named_result_keeps_its_trees_and_others_go(store: Store, hands: Hands) -> None:
    digests = [put(store, one) for one in ("a", "b")]
    for key, digest in zip(keys, digests, strict=False):
        store.put_action(action(store.tree(digest).reference(), key))
    hands.time += 2 * DAY_S
    expected = reachable(store, {digests[0]}) | {action_name(keys[0])}
    collect(store, actions=(keys[0],))
    assert names(store) == expected


def test_an_old_result_stays_only_with_all_of_its_outputs(store: Store, hands: Hands) -> None:
    kept, gone = (store.tree(put(store, one)).reference() for one in ("a", "b"))
    outputs = [{"x": kept}, {"x": kept, "y": gone}, {"y": gone}, {}]
    for key, one in zip(keys, outputs, strict=True):
        store.put_action(action(kept, key, outputs=one))
    hands.time += 2 * DAY_S
    collect(store, {kept.digest})
    assert names(store, "actions/") == {action_name(keys[0])}


@pytest.mark.parametrize("data", [b"{", b""])
def test_a_damaged_old_result_is_deleted(store: Store, hands: Hands, data: bytes) -> None:
    store.objects.write(action_name(KEY), data)
    hands.time += 2 * DAY_S
    collect(store, actions=(KEY,))
    assert names(store) == set()


def test_what_is_kept_and_missing_is_reported(store: Store) -> None:
    digest = put(store, "c")
    (listed,) = names(store, "files/")
    store.objects.delete(listed)
    missing = "0" * 64
    report = collect(store, {digest, missing})
    assert report.missing == tuple(sorted([listed, tree_name(missing)]))


@pytest.mark.parametrize("kind", ["trees/", "files/"])
def test_a_damaged_object_that_is_kept_ends_it_before_anything_is_deleted(
    store: Store, hands: Hands, kind: str
) -> None:
    digest = put(store, "c")
    (name,) = names(store, kind)
    put(store, "ab")
    store.objects.write(name, b"damaged")
    hands.time += 2 * DAY_S
    before = names(store)
    with pytest.raises(CorruptedError, match=name.rpartition("/")[2].removesuffix(".json")):
        collect(store, {digest})
    assert names(store) == before


def test_another_program_s_files_stay_and_are_named(store: Store, hands: Hands) -> None:
    foreign = {"packs/README", "trees/x.json", "actions/notes.txt", "files/a/b"}
    for name in foreign | {"tuf/root.json"}:
        store.objects.write(name, b"mine")
    hands.time += 2 * DAY_S
    report = collect(store)
    assert set(report.foreign) == foreign
    assert names(store) == foreign | {"tuf/root.json"}


def test_only_live_leases_stay(store: Store, hands: Hands) -> None:
    live = LeaseRecord(owner="x", expires=hands.time + 3 * DAY_S).encode()
    dead = LeaseRecord(owner="x", expires=hands.time + 1).encode()
    records = {"live": live, "dead": dead, "damaged": b"{", "large": b"x" * 5000}
    for name, data in records.items():
        store.objects.write(f"leases/{name}", data)
    hands.time += 2 * DAY_S
    collect(store)
    assert names(store) == {"leases/live"}


def test_while_a_writer_runs_nothing_is_looked_at_or_deleted(store: Store, hands: Hands) -> None:
    put(store, "abc")
    hands.time += 2 * DAY_S
    before = names(store)
    asked: list[str] = []

    def keep() -> Iterator[str]:
        asked.append("asked")
        yield "0" * 64

    with store.writing("host:7"), pytest.raises(ConflictError, match="host:7"):
        collect_garbage(store, keep_trees=keep(), grace_s=0, now=hands.time)
    assert names(store) == before
    assert asked == []  # a writer may add to what is to be kept


def test_no_object_ever_refers_to_a_deleted_one(
    store: Store, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, contents in enumerate(("ab", "c", "d")):
        digest = put(store, contents)
        store.put_action(action(store.tree(digest).reference(), keys[number]))
    hands.time += 2 * DAY_S
    deleted: list[str] = []
    delete = store.objects.delete

    def record(name: str) -> None:
        deleted.append(name)
        delete(name)

    monkeypatch.setattr(store.objects, "delete", record)
    collect(store)
    kinds = [name.partition("/")[0] for name in deleted if name != COLLECTOR]
    order = ["actions", "trees", "files", "packs"]
    assert [order.index(kind) for kind in kinds] == sorted(order.index(kind) for kind in kinds)
    assert set(kinds) == set(order)


def test_a_collector_that_lost_its_lease_deletes_nothing(store: Store, hands: Hands) -> None:
    put(store, "ab")
    hands.time += 2 * DAY_S
    before = names(store)

    def lost() -> None:
        raise ConflictError("the lease was lost")

    collector = Collector(store, now=hands.time, grace_s=DAY_S, dry_run=False, check=lost)
    with pytest.raises(ConflictError, match="the lease was lost"):
        collector.run([], [])
    assert names(store) == before


@pytest.mark.parametrize(("grace_s", "age"), [(0.0, 3600.0), (DAY_S, DAY_S)])
def test_half_written_files_are_swept_an_hour_after_at_the_earliest(
    store: Store, hands: Hands, monkeypatch: pytest.MonkeyPatch, grace_s: float, age: float
) -> None:
    swept: list[float] = []

    def sweep(before: float) -> int:
        swept.append(before)
        return 3

    monkeypatch.setattr(store.objects, "sweep", sweep)
    assert collect(store, grace_s=grace_s, dry_run=True).left_overs == 0
    assert swept == []
    assert collect(store, grace_s=grace_s).left_overs == 3
    assert swept == [hands.time - age]


def test_the_report_as_json_and_as_rows(store: Store, hands: Hands) -> None:
    put(store, "a")
    hands.time += 2 * DAY_S
    report = collect(store, {"0" * 64})
    document = report.as_json()
    assert document["deleted"] == {
        "signed": {"objects": 0, "bytes": 0},
        "actions": {"objects": 0, "bytes": 0},
        "trees": {"objects": 1, "bytes": report.bytes - 7},
        "files": {"objects": 0, "bytes": 0},
        "packs": {"objects": 1, "bytes": 7},
        "leases": {"objects": 0, "bytes": 0},
    }
    assert document["missing"] == [tree_name("0" * 64)]
    assert ("packs", "1", "7 B") in report.rows(lambda size: f"{size} B")


def sign(store: Store, key: str, *trees: str, builder: str = "hosted") -> str:
    """A signed result with these output trees; its name."""
    outputs = {tree[:8]: TreeReference(digest=tree, size=1, files=1) for tree in trees}
    result = made(key, outputs=outputs)
    store.put_signed_result(builder, key, signer(builder).sign(result_statement(result, builder)))
    return signed_name(builder, key)


def test_signed_results_are_kept_and_deleted_as_records_are(store: Store, hands: Hands) -> None:
    kept, named, old = put(store, "a"), put(store, "b"), put(store, "c")
    live, by_key = sign(store, keys[0], kept), sign(store, keys[1], named)
    dead = sign(store, keys[2], old)
    damaged = signed_name("gpu", keys[0])
    store.objects.write(damaged, b"x")
    hands.time += 2 * DAY_S
    young_tree = put(store, "d")
    young = sign(store, keys[3], young_tree)
    report = collect(store, {kept}, actions=(keys[1],))
    assert names(store, "signed/") == {live, by_key, young}
    assert names(store, "trees/") == {tree_name(one) for one in (kept, named, young_tree)}
    assert report.deleted["signed"].objects == 2
    assert dead not in names(store)


def test_foreign_file_among_signed_results_is_kept_and_named(store: Store, hands: Hands) -> None:
    store.objects.write("signed/notes.txt", b"x")
    hands.time += 2 * DAY_S
    assert collect(store).foreign == ("signed/notes.txt",)
    assert names(store, "signed/") == {"signed/notes.txt"}
