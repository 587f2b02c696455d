"""Which private key signs a proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import UsageError
from forge.release.attest.signing_keys import build_key, model_key
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import KeyEntry
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import World

Select = Callable[[Keyring, ProofKeys], KeyEntry]
KEYS = [(build_key, "bundles"), (model_key, "model")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A keys folder after one rotation of the build key and of the model key."""
    made = World(tmp_path, memory=True)
    made.publish("1.0.0")
    made.rotate("bundles")
    made.rotate("model")
    return made


@pytest.mark.parametrize(("select", "role"), KEYS)
def test_newest_trusted_key_signs(world: World, select: Select, role: str) -> None:
    assert select(world.ring(), world.ring().proof_keys()).name == f"{role}-2"


@pytest.mark.parametrize(("select", "role"), KEYS)
def test_older_trusted_key_signs_if_the_newest_is_missing(
    world: World, select: Select, role: str
) -> None:
    (world.keys / f"{role}-2.pem").unlink()
    assert select(world.ring(), world.ring().proof_keys()).name == role


@pytest.mark.parametrize(("select", "role"), KEYS)
def test_key_that_is_not_in_the_list_does_not_sign(world: World, select: Select, role: str) -> None:
    trusted = world.ring().proof_keys()
    older = ProofKeys(build=trusted.build[1:], model=trusted.model[1:])
    assert select(world.ring(), older).name == role


@pytest.mark.parametrize(("select", "role"), KEYS)
@pytest.mark.parametrize("listed", [True, False])
def test_folder_without_a_trusted_key_is_refused(
    world: World, select: Select, role: str, listed: object
) -> None:
    trusted = world.ring().proof_keys() if listed else ProofKeys(build=(), model=())
    if listed:
        for name in (role, f"{role}-2"):
            (world.keys / f"{name}.pem").unlink()
    with pytest.raises(UsageError, match="key that devices trust") as caught:
        select(world.ring(), trusted)
    assert caught.value.exit_code == 2
    assert "forge keys refresh" in caught.value.hint


def test_key_of_another_role_does_not_sign(world: World) -> None:
    keyring = world.ring()
    channels = keyring.entries("channels")[0]
    trusted = keyring.proof_keys()
    listed = trusted.build[0].model_copy(update={"keyid": channels.keyid})
    with pytest.raises(UsageError):
        build_key(keyring, ProofKeys(build=(listed,), model=()))
