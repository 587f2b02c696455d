"""Check the release metadata without keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import StoreError
from forge.release.audit import audit
from forge.store.backends.protocol import Stored
from tests.support.release_world import World, Wrapped, manifest

METADATA, TIMESTAMP = "tuf/metadata/", "tuf/metadata/timestamp.json"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, memory=True)
    made.publish("1.0.0", "development", "other")
    made.rotate("root", replace="root-1")
    return made


def problems(world: World) -> list[tuple[str, str]]:
    return [(one.name, one.reason) for one in audit(world.objects).problems]


def only(world: World, prefix: str) -> str:
    return min(entry.name for entry in world.objects.entries(prefix))


def test_store_without_releases_has_no_problems(tmp_path: Path) -> None:
    found = audit(World(tmp_path, memory=True).objects)
    assert (found.objects, found.bytes, found.problems, found.bundles) == (0, 0, [], {})


def test_every_current_object_is_read_once(world: World) -> None:
    found = audit(world.objects)
    assert found.problems == []
    stale = {f"{METADATA}1.snapshot.json"}  # the rotation signed another one
    current = {entry.name: entry.size for entry in world.objects.entries("tuf/")}
    for name in stale:
        current.pop(name, None)
    assert found.objects == len(current)
    assert found.bytes == sum(current.values())


def test_trees_are_named_with_the_bundles_that_refer_to_them(world: World) -> None:
    expected: dict[str, list[str]] = {}
    for profile in ("development", "other"):
        one = manifest("1.0.0", profile)
        for tree in (one.tree.digest, one.proofs.digest):
            expected.setdefault(tree, []).append(f"demo 1.0.0 for {profile}")
    assert audit(world.objects).bundles == expected


@pytest.mark.parametrize(
    "name",
    [
        "2.snapshot.json", "1.targets.json", "1.bundles.json", "1.channels.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "altered", "longer"])
def test_damaged_metadata_is_a_problem_of_its_name(world: World, name: str, damage: str) -> None:
    path = METADATA + name
    data = world.objects.read(path, max_bytes=10**7).data
    if damage == "missing":
        world.objects.delete(path)
    else:
        world.objects.write(path, data + b" " if damage == "longer" else data.swapcase())
    ((found, reason),) = problems(world)
    assert found == path
    assert reason.endswith("restore it from a copy of the store")
    assert ("it is missing" in reason) == (damage == "missing")


@pytest.mark.parametrize("prefix", ["bundles", "channels", "keys"])
@pytest.mark.parametrize("data", [None, b"{}"])
def test_damaged_target_is_a_problem_of_its_name(
    world: World, prefix: str, data: bytes | None
) -> None:
    name = only(world, f"tuf/targets/{prefix}/")
    if data is None:
        world.objects.delete(name)
    else:
        world.objects.write(name, data)
    assert [found for found, _ in problems(world)] == [name]


def test_lost_timestamp_is_a_problem(world: World) -> None:
    world.objects.delete(TIMESTAMP)
    ((name, reason),) = problems(world)
    assert name == TIMESTAMP
    assert "no timestamp" in reason


def lose_first_root(world: World) -> str:
    world.objects.delete(f"{METADATA}1.root.json")
    return f"{METADATA}1.root.json"


def swap_second_root(world: World) -> str:
    path = f"{METADATA}2.root.json"
    document = json.loads(world.objects.read(path, max_bytes=10**6).data)
    document["signed"]["expires"] = "2099-01-01T00:00:00Z"
    world.objects.write(path, json.dumps(document).encode())
    return path


def alter_timestamp(world: World) -> str:
    document = json.loads(world.objects.read(TIMESTAMP, max_bytes=10**6).data)
    document["signed"]["version"] = 99
    world.objects.write(TIMESTAMP, json.dumps(document).encode())
    return TIMESTAMP


def snapshot_for_timestamp(world: World) -> str:
    snapshot = world.objects.read(f"{METADATA}2.snapshot.json", max_bytes=10**6).data
    world.objects.write(TIMESTAMP, snapshot)
    return TIMESTAMP


@pytest.mark.parametrize(
    "damage", [lose_first_root, swap_second_root, alter_timestamp, snapshot_for_timestamp]
)
def test_chain_of_signatures_is_followed_to_the_first_break(
    world: World, damage: Callable[[World], str]
) -> None:
    name = damage(world)
    assert [found for found, _ in problems(world)] == [name]


class Unreachable(Wrapped):
    """A store that cannot be reached after the timestamp."""

    def read(self, name: str, *, max_bytes: int) -> Stored:
        if name != TIMESTAMP:
            raise StoreError("Cannot reach the store")
        return super().read(name, max_bytes=max_bytes)


def test_store_that_cannot_be_reached_is_an_error_and_not_a_problem(world: World) -> None:
    with pytest.raises(StoreError, match="Cannot reach the store"):
        audit(Unreachable(world.objects, lambda _: None))
