"""The chain of roots of keys folder and store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from forge.errors import TrustError
from forge.release.repository.root_chain import read_roots
from tests.support.release_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store with roots 1 to 3, and a keys folder with the same."""
    made = World(tmp_path, memory=True)
    made.publish("1.0.0")
    made.rotate("root", replace="root-1")
    made.rotate("root", replace="root-2")
    return made


def name(version: int) -> str:
    return f"tuf/metadata/{version}.root.json"


def versions(world: World) -> tuple[list[int], list[int], list[int]]:
    roots, missing, later = read_roots(world.objects, world.ring())
    return [one.version for one in roots], list(missing), list(later)


def test_roots_that_both_have_are_neither_missing_nor_later(world: World) -> None:
    assert versions(world) == ([1, 2, 3], [], [])


def test_new_store_lacks_every_root(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    assert versions(world) == ([1], [1], [])
    assert read_roots(world.objects, world.ring())[1] == world.ring().documents("root")


def test_roots_that_only_the_folder_has_are_missing_in_ascending_order(world: World) -> None:
    for version in (2, 3):
        world.objects.delete(name(version))
    assert versions(world) == ([1, 2, 3], [2, 3], [])


def test_roots_that_only_the_store_has_are_later(world: World) -> None:
    for version in (2, 3):
        (world.keys / "metadata" / f"{version}.root.json").unlink()
    assert versions(world) == ([1, 2, 3], [], [2, 3])


def test_folder_without_a_root_is_an_error(world: World) -> None:
    shutil.rmtree(world.keys / "metadata")
    with pytest.raises(TrustError, match="has no root metadata") as caught:
        versions(world)
    assert caught.value.hint == "restore metadata/*.root.json"


def test_folder_that_lacks_a_root_in_between_is_an_error(world: World) -> None:
    (world.keys / "metadata" / "2.root.json").unlink()
    with pytest.raises(TrustError, match="Root 3 is out of order"):
        versions(world)


def test_store_of_other_keys_is_an_error(world: World) -> None:
    data = world.objects.read(name(3), max_bytes=10**6).data
    world.objects.write(name(3), data + b" ")
    with pytest.raises(TrustError, match=f"{name(3)} in .* was signed with other keys"):
        versions(world)


def test_root_that_its_predecessor_did_not_sign_is_an_error(world: World) -> None:
    (world.keys / "metadata" / "3.root.json").unlink()
    metadata = Metadata[Root].from_bytes(world.objects.read(name(3), max_bytes=10**6).data)
    root = Metadata[Root].from_bytes(world.objects.read(name(2), max_bytes=10**6).data).signed
    dropped = [entry for entry in world.ring().entries("root")
               if entry.keyid in root.roles["root"].keyids]  # fmt: skip
    metadata.signatures.pop(dropped[0].keyid, None)
    metadata.signatures.pop(dropped[1].keyid, None)
    world.objects.write(name(3), metadata.to_bytes())
    with pytest.raises(UnsignedMetadataError):
        versions(world)


def test_root_in_the_wrong_place_is_an_error(world: World) -> None:
    (world.keys / "metadata" / "3.root.json").unlink()
    world.objects.write(name(3), world.objects.read(name(2), max_bytes=10**6).data)
    with pytest.raises(TrustError, match="Root 3 is out of order"):
        versions(world)
