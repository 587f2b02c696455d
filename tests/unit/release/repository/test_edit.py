"""Changes to the targets before they are signed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from forge.errors import NotInStoreError, TrustError
from forge.release.repository.edit import Edit, new_proof_keys
from forge.release.repository.state import load_state
from forge.trust.layout import PROOF_KEYS_PATH, target_name
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import World


def no_keys() -> ProofKeys:
    return ProofKeys(build=(), model=())


def test_target_has_length_digest_and_custom_fields_of_its_bytes() -> None:
    edit = Edit({"bundles": {}, "channels": {}}, no_keys)
    edit.put("channels", "channels/demo/stable.json", b"data", {"version": "1.0.0"})
    target = edit.targets["channels"]["channels/demo/stable.json"]
    digest = hashlib.sha256(b"data").hexdigest()
    assert (target.length, target.hashes) == (4, {"sha256": digest})
    assert target.custom == {"version": "1.0.0"}
    assert edit.targets["bundles"] == {}
    assert edit.files == {f"tuf/targets/channels/demo/{digest}.stable.json": b"data"}


def test_second_put_replaces_the_target() -> None:
    edit = Edit({"bundles": {}, "channels": {}}, no_keys)
    edit.put("channels", "channels/demo/stable.json", b"one", {"version": "1.0.0"})
    edit.put("channels", "channels/demo/stable.json", b"two", {"version": "2.0.0"})
    (target,) = edit.targets["channels"].values()
    assert target.custom == {"version": "2.0.0"}
    assert edit.files[target_name("channels/demo/stable.json", target.hashes["sha256"])] == b"two"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def published_list(world: World) -> str:
    (entry,) = world.objects.entries("tuf/targets/keys/")
    return entry.name


def test_proof_keys_of_a_new_store_are_those_of_the_folder(world: World) -> None:
    state = load_state(world.objects, world.ring())
    assert new_proof_keys(world.objects, world.ring(), state) == world.ring().proof_keys()


def test_proof_keys_that_are_published_are_read_from_the_store(world: World) -> None:
    world.publish("1.0.0")
    expected = world.ring().proof_keys()
    for path in (world.keys / "targets" / "keys").iterdir():
        path.unlink()
    state = load_state(world.objects, world.ring())
    assert state.new_targets is None
    assert new_proof_keys(world.objects, world.ring(), state) == expected


@pytest.mark.parametrize("data", [b"", b"{}", None])
def test_altered_list_in_the_store_is_a_trust_error(world: World, data: bytes | None) -> None:
    world.publish("1.0.0")
    name = published_list(world)
    size = world.objects.size(name) or 0
    world.objects.write(name, b"x" * size if data is None else data)
    state = load_state(world.objects, world.ring())
    with pytest.raises(TrustError) as caught:
        new_proof_keys(world.objects, world.ring(), state)
    assert caught.value.exit_code == 7


def test_missing_list_in_the_store_is_named(world: World) -> None:
    world.publish("1.0.0")
    world.objects.delete(published_list(world))
    state = load_state(world.objects, world.ring())
    with pytest.raises(NotInStoreError, match=PROOF_KEYS_PATH.split("/", maxsplit=1)[0]):
        new_proof_keys(world.objects, world.ring(), state)
