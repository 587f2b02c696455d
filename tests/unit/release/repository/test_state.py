"""Read and verify the state of a repository."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp

from forge.errors import NotInStoreError, TrustError
from forge.release.lifecycle import ceremony
from forge.release.repository.state import load_state
from tests.support.release_world import World

TIMESTAMP = "tuf/metadata/timestamp.json"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, memory=True)
    made.publish("1.0.0")
    return made


def read(world: World, name: str) -> bytes:
    return world.objects.read(name, max_bytes=10**7).data


def test_new_store_has_the_folders_root_and_targets_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    state = load_state(world.objects, world.ring())
    assert (state.snapshot, state.timestamp, state.etag) == (None, None, None)
    assert list(state.new_roots) == [1]
    assert state.new_targets == world.ring().documents("targets")[1]
    assert state.stale == {"bundles", "channels"}
    assert [state.roles[role].signed.targets for role in ("bundles", "channels")] == [{}, {}]


def test_published_store_is_read_whole(world: World) -> None:
    state = load_state(world.objects, world.ring())
    assert (state.new_roots, state.later_roots, state.new_targets) == ({}, {}, None)
    assert state.stale == frozenset()
    assert list(state.roles["bundles"].signed.targets) == ["bundles/demo/1.0.0/development.json"]
    assert list(state.roles["channels"].signed.targets) == ["channels/demo/canary.json"]
    assert state.timestamp is not None
    data = read(world, TIMESTAMP)
    assert state.timestamp.signed == Metadata[Timestamp].from_bytes(data).signed
    assert state.etag == world.objects.read(TIMESTAMP, max_bytes=10**6).etag


def test_targets_that_only_the_folder_has_are_new_and_make_roles_stale(world: World) -> None:
    keyring = world.ring()
    state = load_state(world.objects, keyring)
    ceremony.replace_key(
        keyring, state, "channels", world.now, replace=None, revoke=False, uri=None
    )
    again = load_state(world.objects, keyring)
    assert again.targets.signed.version == 2
    assert again.new_targets == keyring.documents("targets")[2]
    assert again.stale == {"channels"}


def test_expired_metadata_is_read(world: World) -> None:
    world.later(days=400)
    state = load_state(world.objects, world.ring())
    assert state.timestamp is not None
    assert state.timestamp.signed.expires < world.now - timedelta(days=300)


@pytest.mark.parametrize("role", ["snapshot", "targets", "bundles", "channels"])
def test_missing_metadata_is_named(world: World, role: str) -> None:
    world.objects.delete(f"tuf/metadata/1.{role}.json")
    with pytest.raises(NotInStoreError, match=role) as caught:
        load_state(world.objects, world.ring())
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("name", ["1.snapshot", "1.targets", "1.bundles", "1.channels"])
def test_altered_metadata_is_refused(world: World, name: str) -> None:
    path = f"tuf/metadata/{name}.json"
    world.objects.write(path, read(world, path).replace(b"{", b"[", 1))
    with pytest.raises(TrustError, match=r"mixed or altered|inconsistent or altered") as caught:
        load_state(world.objects, world.ring())
    assert caught.value.exit_code == 7


def test_timestamp_without_a_valid_signature_is_refused(world: World) -> None:
    document = json.loads(read(world, TIMESTAMP))
    document["signed"]["version"] += 1
    world.objects.write(TIMESTAMP, json.dumps(document).encode())
    with pytest.raises(TrustError, match="not signed by enough trusted keys"):
        load_state(world.objects, world.ring())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"signed": {}, "signatures": []}'])
def test_timestamp_that_is_not_metadata_is_refused(world: World, data: bytes) -> None:
    world.objects.write(TIMESTAMP, data)
    with pytest.raises(TrustError, match="is not valid"):
        load_state(world.objects, world.ring())


def test_release_metadata_without_a_root_is_refused(world: World) -> None:
    world.objects.delete("tuf/metadata/1.root.json")
    with pytest.raises(TrustError, match="has release metadata but no root"):
        load_state(world.objects, world.ring())


def test_folder_without_targets_cannot_start_a_store(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    (world.keys / "metadata" / "1.targets.json").unlink()
    with pytest.raises(TrustError, match="has no targets metadata"):
        load_state(world.objects, world.ring())
