"""What the revocation of a proof key ends."""

from __future__ import annotations

from pathlib import Path

from forge.release.revocation import EndedVersion, ended_versions
from tests.support.release_world import World


def test_versions_that_devices_accept_are_listed_with_their_channels(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("1.0.0")
    world.release("1.1.0")
    world.promote("1.0.0", "stable")
    world.promote("1.0.0", "beta")
    found = ended_versions(world.store, world.ring().proof_keys())
    assert found == [
        EndedVersion("demo", "1.1.0", ("development",), ("canary",)),
        EndedVersion("demo", "1.0.0", ("development",), ("beta", "stable")),
    ]
    assert str(found[1]) == "demo 1.0.0 for development, on the channel beta, stable"


def test_versions_that_have_ended_or_are_gone_are_not_listed(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0")
    world.rotate("bundles", revoke=True)
    assert ended_versions(world.store, world.ring().proof_keys()) == []
    made = world.release("1.1.0")
    assert len(ended_versions(world.store, world.ring().proof_keys())) == 1
    world.objects.delete(f"trees/{made.proofs.digest}.json")
    assert ended_versions(world.store, world.ring().proof_keys()) == []


def test_rotation_without_revocation_leaves_old_versions_to_be_ended(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("1.0.0")
    world.rotate("bundles")
    (found,) = ended_versions(world.store, world.ring().proof_keys())
    assert found.version == "1.0.0"


def test_new_store_has_nothing_to_end(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    assert ended_versions(world.store, world.ring().proof_keys()) == []
