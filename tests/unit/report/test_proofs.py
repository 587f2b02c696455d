"""Proofs are verified as devices verify them, each for its own tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import CorruptedError, TrustError
from forge.report.proofs import ProofReader
from forge.trust.predicates import ACCURACY, PERFORMANCE
from forge.trust.proofs import MODEL_SIGNATURE, PROVENANCE, SBOM
from tests.support.report_world import LICENCES, PACKAGES, ReportWorld, Version, result_of


@pytest.fixture
def world(tmp_path: Path) -> ReportWorld:
    return ReportWorld(tmp_path)


def reader(world: ReportWorld) -> ProofReader:
    return ProofReader(world.store, world.world.ring().proof_keys())


def test_what_the_proofs_of_a_bundle_say(world: ReportWorld) -> None:
    (manifest,) = world.publish(Version("1.0.0", 0))
    found = reader(world).proven(manifest)
    assert found.measured.result == result_of(0)
    assert [one.name for one in found.sbom.packages] == list(PACKAGES)
    assert {one.licence for one in found.sbom.packages} == set(LICENCES)
    assert found.proofs.builder == "urn:forge:runner:local%20linux%2Famd64"
    assert found.proofs.engine_files == 3
    assert [one.name for one in found.proofs.files] == sorted(
        (ACCURACY, MODEL_SIGNATURE, PERFORMANCE, PROVENANCE, SBOM)
    )
    assert all("signed" in one.verified for one in found.proofs.files)


@pytest.mark.parametrize("name", [PROVENANCE, MODEL_SIGNATURE, SBOM])
def test_proofs_that_lack_a_file_are_refused(world: ReportWorld, name: str) -> None:
    (manifest,) = world.publish(Version("1.0.0", 0))
    files = unpacked(world, manifest.proofs.digest)
    _, tree = world.put({path: data for path, data in files.items() if path != name})
    with pytest.raises(TrustError, match=name):
        reader(world).proven(manifest.model_copy(update={"proofs": tree}))


@pytest.mark.parametrize("name", [PROVENANCE, MODEL_SIGNATURE, PERFORMANCE, ACCURACY])
def test_proofs_of_another_bundle_are_refused(world: ReportWorld, name: str) -> None:
    (one,), (other,) = (world.publish(Version(f"1.{n}.0", n)) for n in range(2))
    files = unpacked(world, one.proofs.digest) | {name: unpacked(world, other.proofs.digest)[name]}
    _, tree = world.put(files)
    mixed = one.model_copy(update={"proofs": tree})
    with pytest.raises(TrustError, match="could not be verified"):
        reader(world).proven(mixed)


@pytest.mark.parametrize("name", [PROVENANCE, PERFORMANCE, MODEL_SIGNATURE])
def test_proofs_of_a_key_that_is_not_trusted_are_refused(
    world: ReportWorld, tmp_path: Path, name: str
) -> None:
    (manifest,) = world.publish(Version("1.0.0", 0))
    stranger = ReportWorld(tmp_path / "stranger")
    (same,) = stranger.publish(Version("1.0.0", 0))
    assert same.tree == manifest.tree
    files = unpacked(world, manifest.proofs.digest)
    files[name] = unpacked(stranger, same.proofs.digest)[name]
    _, tree = world.put(files)
    with pytest.raises(TrustError, match="could not be verified"):
        reader(world).proven(manifest.model_copy(update={"proofs": tree}))


def test_an_sbom_that_is_not_cyclonedx_is_damaged(world: ReportWorld) -> None:
    (manifest,) = world.publish(Version("1.0.0", 0, sbom={"components": "none"}))
    with pytest.raises(CorruptedError, match=r"sbom\.cdx\.json of demo 1\.0\.0 for development"):
        reader(world).proven(manifest)


def unpacked(world: ReportWorld, digest: str) -> dict[str, bytes]:
    tree = world.store.tree(digest)
    return {
        one.path: world.store.read_file(digest, one.path, max_bytes=10**7) for one in tree.entries
    }
