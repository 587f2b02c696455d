"""A store, keys and a device of an earlier version of Forge (commit d494d3e, 2026-11-28) go on.

The capture was made by that version's own publisher and client: versions 1.0.0 and 1.1.0 of the
bundle `demo`, canary at 1.1.0, and a device that has read them. Its keys are the tests' own.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from forge.release.keys.keyring import Keyring
from forge.release.lifecycle.expiry import status
from forge.release.publish import promote
from forge.store import Store
from forge.store.backends.directory import DirectoryObjects
from forge.trust.client import TrustedStore
from tests.support.release_world import NOW, PASSPHRASE

CAPTURE = Path(__file__).parents[1] / "support" / "earlier_versions" / "store-d494d3e.tar.gz"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    with tarfile.open(CAPTURE) as archive:
        # Python 3.11.2 of Debian 12 has no filters yet; later versions warn without one.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(tmp_path)  # noqa: S202 - the archive is our own
    return tmp_path


def device(world: Path, name: str = "device") -> TrustedStore:
    """The device of the capture, or a new one."""
    root = (world / "keys/metadata/1.root.json").read_bytes()
    return TrustedStore(DirectoryObjects(world / "store"), world / name, root, now=NOW)


def read_all(client: TrustedStore) -> tuple[str, str]:
    """What a device reads: the version on canary, and the tree that its manifest names."""
    client.refresh()
    channel = client.channel("demo", "canary")
    manifest = client.channel_manifest(channel, "development")
    client.proof_keys()
    return channel.version, manifest.tree.digest


def signed_beside_the_channel(world: Path) -> dict[str, Any]:
    client = device(world, "reader")
    client.refresh()
    return client._signed("channels/demo/canary.json").unrecognized_fields["custom"]  # type: ignore[no-any-return]


def test_its_device_and_a_new_one_read_it(world: Path) -> None:
    assert "manifests" not in signed_beside_the_channel(world)
    assert read_all(device(world)) == read_all(device(world, "new"))


def test_its_publisher_goes_on_and_its_device_follows(world: Path) -> None:
    ring = Keyring(world / "keys", lambda: PASSPHRASE)
    store = Store(DirectoryObjects(world / "store"), cache=world / "cache")
    client = device(world)
    before = read_all(client)
    assert promote(store, ring, "demo", "1.0.0", "canary", now=NOW, force=True) == "1.1.0"
    assert read_all(client)[0] == "1.0.0"
    assert set(signed_beside_the_channel(world)["manifests"]) == {"development"}
    promote(store, ring, "demo", "1.1.0", "canary", now=NOW)
    assert read_all(client) == read_all(device(world, "new")) == before
    assert {row.role for row in status(store.objects, ring, now=NOW)} >= {"root", "timestamp"}
