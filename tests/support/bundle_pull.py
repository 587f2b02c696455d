"""Publish a bundle and pull it as a device does."""

from __future__ import annotations

from pathlib import Path

from forge.canonical import digest
from forge.release.manifest import PlannedManifest
from forge.release.publish import publish
from forge.store import Objects, Store
from forge.trust.client import TrustedStore
from tests.support.release_world import World, manifest


def release(world: World, version: str, bundle: Path, proofs: Path) -> None:
    made = manifest(version, "development").model_copy(
        update={"tree": world.store.put_tree(bundle), "proofs": world.store.put_tree(proofs)}
    )
    planned = PlannedManifest(made, digest([made.identity()]))
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
