"""A new version whose bytes are the old ones costs a device signed metadata and a tree document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forge.store import Stored
from tests.support.bundle_pull import pull, release
from tests.support.release_world import World, Wrapped
from tests.support.stores import fill, snapshot

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
