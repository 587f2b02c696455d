"""Published metadata that was verified from a root."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from forge.errors import TrustError
from forge.release.lifecycle import keys as lifecycle
from forge.release.repository.unverified_index import read_index
from forge.release.repository.verified_index import first_root, read_verified_index
from tests.support.release_world import PASSPHRASE, World


def test_it_lists_what_the_unverified_index_lists(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish("1.0.0", "development", "thor")
    world.publish("1.1.0")
    world.promote("1.0.0", "stable")
    found = read_verified_index(world.objects, first_root(world.objects), world.now)
    other = read_index(world.objects)
    assert (dict(found.bundles), dict(found.channels)) == (other.bundles, other.channels)
    assert len(found.bundles) == 3
    assert found.channel("demo", "stable") == "1.0.0"
    assert found.proof_keys == world.ring().proof_keys()


def test_a_store_without_a_publication_is_empty(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    root = (world.keys / "metadata" / "1.root.json").read_bytes()
    found = read_verified_index(world.objects, root, world.now)
    assert (found.bundles, found.proof_keys) == ({}, None)
    with pytest.raises(TrustError, match="no root metadata"):
        first_root(world.objects)


def test_metadata_that_expired_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish("1.0.0")
    late = world.now + timedelta(days=3650)
    with pytest.raises(TrustError, match="expired"):
        read_verified_index(world.objects, first_root(world.objects), late)


def test_metadata_that_is_signed_under_another_root_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish("1.0.0")
    lifecycle.init(tmp_path / "other", passphrase=PASSPHRASE, now=world.now)
    root = (tmp_path / "other" / "metadata" / "1.root.json").read_bytes()
    with pytest.raises(TrustError):
        read_verified_index(world.objects, root, world.now)


def test_a_root_of_before_a_rotation_is_enough(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish("1.0.0")
    world.rotate("online")
    world.publish("1.1.0")
    root = (world.keys / "metadata" / "1.root.json").read_bytes()
    found = read_verified_index(world.objects, root, world.now)
    assert len(found.bundles) == 2
