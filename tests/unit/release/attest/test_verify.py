"""Verify proofs before anything is published."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.errors import NotInStoreError, TrustError
from forge.release.attest.verify import check_proofs
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import World, manifest


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


@pytest.fixture
def released(world: World) -> Manifest:
    return world.release("1.0.0")


def test_proofs_of_a_release_are_accepted(world: World, released: Manifest) -> None:
    check_proofs(world.store, released, world.ring().proof_keys())


@dataclass
class OwnFiles:
    """A store of proofs that counts what is read."""

    files: dict[str, bytes]
    read: list[tuple[str, str]] = field(default_factory=list)

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        self.read.append((digest, path))
        if path not in self.files:
            raise NotInStoreError(f"{path} is not in the store")
        assert len(self.files[path]) <= max_bytes
        return self.files[path]


def files(world: World, released: Manifest) -> dict[str, bytes]:
    digest = released.proofs.digest
    return {
        name: world.store.read_file(digest, name, max_bytes=10**6)
        for name in ("provenance.dsse.json", "model.sig")
    }


def test_only_the_two_signatures_are_read(world: World, released: Manifest) -> None:
    store = OwnFiles(files(world, released))
    check_proofs(store, released, world.ring().proof_keys())
    assert store.read == [
        (released.proofs.digest, "provenance.dsse.json"),
        (released.proofs.digest, "model.sig"),
    ]


@pytest.mark.parametrize("revoked", ["build", "model"])
def test_proofs_of_a_revoked_key_are_refused(
    world: World, released: Manifest, revoked: str
) -> None:
    keys = world.ring().proof_keys().model_copy(update={revoked: ()})
    with pytest.raises(TrustError, match=r"Devices would refuse demo 1\.0\.0 for dev") as caught:
        check_proofs(world.store, released, keys)
    assert caught.value.exit_code == 7
    assert caught.value.why
    assert "forge keys refresh" in caught.value.hint


@pytest.mark.parametrize("name", ["provenance.dsse.json", "model.sig"])
@pytest.mark.parametrize("data", [b"", b"{}", b"not JSON"])
def test_file_that_is_not_a_signature_is_refused(
    world: World, released: Manifest, name: str, data: bytes
) -> None:
    store = OwnFiles(files(world, released) | {name: data})
    with pytest.raises(TrustError, match="Devices would refuse"):
        check_proofs(store, released, world.ring().proof_keys())


def test_proofs_of_another_tree_are_refused(world: World, released: Manifest) -> None:
    other = released.model_copy(update={"tree": manifest("9.0.0", "development").tree})
    with pytest.raises(TrustError, match="Devices would refuse"):
        check_proofs(world.store, other, world.ring().proof_keys())


@pytest.mark.parametrize("name", ["provenance.dsse.json", "model.sig"])
def test_proof_that_is_missing_is_an_error_of_the_store(
    world: World, released: Manifest, name: str
) -> None:
    store = OwnFiles(files(world, released))
    del store.files[name]
    with pytest.raises(NotInStoreError, match=name):
        check_proofs(store, released, world.ring().proof_keys())


def test_no_key_accepts_no_proof(world: World, released: Manifest) -> None:
    with pytest.raises(TrustError):
        check_proofs(world.store, released, ProofKeys(build=(), model=()))
