"""Export a bundle of a test's world into a `.forge` file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from forge.bundle import Manifest
from forge.canonical import digest
from forge.release.attest.attest import prove
from forge.release.bundle_reader import BundlePart
from forge.release.export import Exported, export_bundle
from forge.release.manifest import PlannedManifest
from forge.release.publish import publish
from forge.steps import Link
from forge.store import Store
from forge.store.progress import Progress
from tests.support import release_world
from tests.support.release_world import World
from tests.support.stores import noise

__all__ = ["exported", "part", "release", "root", "silent"]


@contextlib.contextmanager
def silent(_what: str) -> Iterator[Progress]:
    """A progress that nobody sees."""
    yield lambda _done, _total: None


def exported(
    store: Store, root: bytes, part: BundlePart, file: Path, now: datetime | None = None
) -> Exported:
    return export_bundle(store, root, part, file, silent, now=now)


def part(version: str = "1.0.0", profile: str = "development") -> BundlePart:
    return BundlePart("demo", version, profile)


def root(world: World, version: int = 1) -> bytes:
    return (world.keys / "metadata" / f"{version}.root.json").read_bytes()


def release(world: World, version: str, *, engine: int = 1_000_000) -> Manifest:
    """A version whose engine has this many bytes, half of them those of every version."""
    work = world.folder / f"made-{version}"
    folder = work / "tree/models/m/1/engine"
    folder.mkdir(parents=True)
    (folder / "same.bin").write_bytes(noise(engine // 2))
    (folder / "own.bin").write_bytes(noise(engine // 2, seed=digest_seed(version)))
    (folder.parent / "model.py").write_text("print()")
    (work / "tree/serving.json").write_text('{"repository": "models", "model": "m"}')
    (work / "sbom").mkdir()
    (work / "sbom/sbom.cdx.json").write_text("{}")
    (work / "proofs").mkdir()
    tree = world.store.put_tree(work / "tree")
    prove(
        repository=work / "tree",
        sbom=work / "sbom",
        digests={"repository": tree.digest},
        links=[Link("r", "0" * 64, {}, {"r": tree.digest}, 1.0, "2026-11-24T00:00:00Z", "local")],
        keyring=world.ring(),
        output=work / "proofs",
        profile="development",
    )
    proofs = world.store.put_tree(work / "proofs")
    made = release_world.manifest(version, "development")
    made = made.model_copy(update={"tree": tree, "proofs": proofs})
    planned = PlannedManifest(made, digest([made.identity()]))
    publish(world.store, world.ring(), [planned], "canary", now=world.now)
    return made


def digest_seed(version: str) -> int:
    return int(digest(version)[:8], 16)
