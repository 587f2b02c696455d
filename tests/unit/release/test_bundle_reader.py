"""What is read of one bundle: all that a device reads, and nothing that it would refuse."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from forge.errors import NotInStoreError, TrustError
from forge.release.bundle_reader import read_bundle
from forge.store.backends.memory import MemoryObjects
from forge.trust.client import TrustedStore
from tests.support.exported import part, release, root
from tests.support.release_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_documents_are_enough_for_a_device(world: World, tmp_path: Path) -> None:
    made = release(world, "1.0.0")
    release(world, "1.1.0")
    found = read_bundle(world.store.objects, root(world), part("1.1.0"), world.now)
    assert found.channels == ("canary",)
    objects = MemoryObjects()
    for name, data in found.documents.items():
        objects.write(name, data)
    (tmp_path / "device").mkdir()
    trusted = TrustedStore(objects, tmp_path / "device", root(world), world.now)
    trusted.refresh()
    channel = trusted.channel("demo", "canary")
    assert trusted.channel_manifest(channel, "development") == found.manifest
    assert found.manifest.version == "1.1.0"
    assert not [name for name in found.documents if made.version in name]


def test_it_expires_with_the_first_of_its_metadata(world: World) -> None:
    release(world, "1.0.0")
    found = read_bundle(world.store.objects, root(world), part(), world.now)
    almost = found.expires - timedelta(seconds=1)
    assert read_bundle(world.store.objects, root(world), part(), almost).expires == found.expires
    with pytest.raises(TrustError, match="expired"):
        read_bundle(world.store.objects, root(world), part(), found.expires)


def test_a_version_that_is_not_published_is_named(world: World) -> None:
    release(world, "1.0.0")
    with pytest.raises(NotInStoreError):
        read_bundle(world.store.objects, root(world), part("2.0.0"), world.now)
