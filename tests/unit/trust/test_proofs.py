"""The accuracy receipt among the proofs of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.bundle import TreeReference
from forge.errors import TrustError
from forge.release.attest.predicates import Predicate, write_predicate
from forge.trust.predicates import ACCURACY, ACCURACY_TYPE, PERFORMANCE_TYPE
from forge.trust.proofs import verify_accuracy
from tests.support.manifests import manifest
from tests.support.receipts import receipt
from tests.support.release_world import World

TREE = "ab" * 32
MANIFEST = manifest("1.0.0").model_copy(
    update={"tree": TreeReference(digest=TREE, size=1, files=1)}
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world", memory=True)


def written(world: World, folder: Path, tree: str = TREE, kind: str = ACCURACY_TYPE) -> Path:
    content = receipt().model_dump(mode="json")
    write_predicate(Predicate(ACCURACY, kind, content), tree, world.ring(), folder)
    return folder


def test_a_bundle_without_a_receipt_is_valid(world: World, tmp_path: Path) -> None:
    verify_accuracy(tmp_path, MANIFEST, world.ring().proof_keys())


def test_a_signed_receipt_of_this_tree_is_valid(world: World, tmp_path: Path) -> None:
    verify_accuracy(written(world, tmp_path), MANIFEST, world.ring().proof_keys())


@pytest.mark.parametrize(
    ("tree", "kind", "why"),
    [("cd" * 32, ACCURACY_TYPE, "for tree cdcdcdcdcdcd"), (TREE, PERFORMANCE_TYPE, "its type is")],
)
def test_a_receipt_of_something_else_is_refused(
    world: World, tmp_path: Path, tree: str, kind: str, why: str
) -> None:
    with pytest.raises(TrustError) as caught:
        verify_accuracy(written(world, tmp_path, tree, kind), MANIFEST, world.ring().proof_keys())
    assert why in caught.value.why


def test_a_receipt_that_was_changed_is_refused(world: World, tmp_path: Path) -> None:
    path = written(world, tmp_path) / ACCURACY
    text = path.read_text()
    payload = text.index('"payload":"') + 40
    path.write_text(text[:payload] + ("A" if text[payload] != "A" else "B") + text[payload + 1 :])
    with pytest.raises(TrustError, match="could not be verified"):
        verify_accuracy(tmp_path, MANIFEST, world.ring().proof_keys())
