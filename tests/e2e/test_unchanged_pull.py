"""A new version whose bytes are the old ones costs a device signed metadata and a tree document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forge.canonical import digest
from forge.release.manifests import Planned
from forge.release.publish import publish
from forge.store import Objects, Store, Stored
from forge.trust.client import TrustedStore
from tests.support.stores import fill, snapshot
from tests.unit.release.world import World, Wrapped, manifest

MIB = 1024 * 1024
MOST = 20_000  # bytes: the goal of the project's first issue


@dataclass
class Counted(Wrapped):
    """A store that counts what is read of it."""

    read_bytes: int = 0

    def read(self, name: str, *, max_bytes: int) -> Stored:
        stored = super().read(name, max_bytes=max_bytes)
        self.read_bytes += len(stored.data)
        return stored

    def read_range(self, name: str, start: int, length: int) -> bytes:
        self.read_bytes += length
        return super().read_range(name, start, length)


def release(world: World, version: str, bundle: Path, proofs: Path) -> None:
    made = manifest(version, "development").model_copy(
        update={"tree": world.store.put_tree(bundle), "proofs": world.store.put_tree(proofs)}
    )
    planned = Planned(made, digest([made.identity()]))
    publish(world.store, world.ring(), [planned], "canary", now=world.now, check=lambda *_: None)


def pull(world: World, objects: Objects, device: Path, slot: str, *seeds: str) -> None:
    """What a device does: refresh, channel, manifest, proofs, tree."""
    root = (world.keys / "metadata" / "1.root.json").read_bytes()
    trusted = TrustedStore(objects, device / "tuf", root, now=world.now)
    trusted.refresh()
    channel = trusted.channel("demo", "canary")
    found = trusted.manifest("demo", channel.version, "development")
    store = Store(objects, cache=device / "cache")
    for reference, name in ((found.proofs, "proofs"), (found.tree, "tree")):
        folders = [device / seed / name for seed in seeds]
        store.unpack(reference.digest, device / slot / name, seeds=folders)


def test_version_with_unchanged_bytes_moves_less_than_20_kb(tmp_path: Path) -> None:
    world = World(tmp_path)
    bundle, proofs = fill(tmp_path / "bundle", large=24 * MIB), fill(tmp_path / "proofs", large=1)
    device = tmp_path / "device"
    release(world, "1.0.0", bundle, proofs)
    first = Counted(world.objects, lambda _name: None)
    pull(world, first, device, "a")
    assert first.read_bytes > 24 * MIB
    release(world, "1.1.0", bundle, proofs)
    again = Counted(world.objects, lambda _name: None)
    pull(world, again, device, "b", "a")
    print(f"{again.read_bytes} bytes moved")  # noqa: T201  shown by pytest -s, for docs/results
    assert 0 < again.read_bytes < MOST
    assert snapshot(device / "b" / "tree") == snapshot(bundle)
