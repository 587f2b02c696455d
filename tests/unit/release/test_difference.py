"""What differs between two versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import NotFoundError
from forge.release.catalog import Catalog
from forge.release.difference import Change, VersionDifference, compare_versions, signers
from forge.release.repository.verified_index import first_root, read_verified_index
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import World


def compare(world: World, first: str, second: str, profile: str | None = None) -> VersionDifference:
    index = read_verified_index(world.objects, first_root(world.objects), world.now)
    return compare_versions(world.store, index, "demo", (first, second), profile)


def test_only_fields_that_differ_are_listed(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish_planned(world.operating("1.0.0", 80))
    world.publish_planned(world.operating("1.1.0", 85.5))
    (found,) = compare(world, "1.0.0", "1.1.0").profiles
    assert found.fields == (Change("operating.thermal.throttle_c", "80.0", "85.5"),)
    assert found.figures == ()


def test_profiles_of_one_version_only_are_named(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish("1.0.0", "a", "b")
    world.publish("1.1.0", "b", "c")
    found = compare(world, "1.0.0", "1.1.0")
    assert (found.only_first, found.only_second) == (("a",), ("c",))
    assert [one.profile for one in found.profiles] == ["b"]
    with pytest.raises(NotFoundError):
        compare(world, "1.0.0", "1.1.0", "a")


def test_files_deleted_as_garbage_leave_the_download_unknown(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.publish("1.0.0")
    world.publish("1.1.0")
    manifest = Catalog(world.objects).manifest("demo", "1.1.0", "development")
    world.objects.delete(f"trees/{manifest.tree.digest}.json")
    (found,) = compare(world, "1.0.0", "1.1.0").profiles
    assert found.fetch is None
    assert found.files == ()


def test_signers_are_the_keys_whose_signature_holds(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0")
    envelope = world.store.read_file(
        made.proofs.digest, "provenance.dsse.json", max_bytes=1_000_000
    )
    before = world.ring().proof_keys()
    world.rotate("bundles")
    after = world.ring().proof_keys()
    assert len(after.build) > len(before.build)
    assert signers(envelope, after, made.tree.digest) == (before.build[0].keyid,)
    others = tuple(one for one in after.build if one != before.build[0])
    assert signers(envelope, ProofKeys(build=others, model=after.model), made.tree.digest) == ()
    assert signers(envelope, before, "0" * 64) == ()
