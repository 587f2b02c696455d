"""The components of a bundle: of its SBOM and of its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.errors import CorruptedError
from forge.release.components import BundleComponent, name_key, parse_sbom, read_components
from tests.support.release_world import World
from tests.support.sboms import sbom


def test_components_are_those_of_the_sbom_and_the_trees_of_the_manifest(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0", sbom=sbom("numpy==2.1.0", files=(("e/model.bin", "ab" * 32),)))
    found = {one.name: one for one in read_components(world.objects, made) or ()}
    assert found["numpy"].purl == "pkg:pypi/numpy@2.1.0"
    assert found["numpy"].licence == "Apache-2.0"
    assert found["e/model.bin"].digests == ("ab" * 32,)
    assert found["model repository"].digests == (made.tree.digest,)
    assert found["proofs"].digests == (made.proofs.digest,)


def test_bundle_without_an_sbom_has_no_known_components(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    made = world.planned("1.0.0").manifest
    assert read_components(world.objects, made) is None


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"\xff", b'{"components": [1]}', b'{"components": [{"type": "library"}]}',
     b'{"metadata": 1}', b'{"components": {"a": 1}}'],
)  # fmt: skip
def test_a_document_that_is_no_sbom_is_refused(document: bytes) -> None:
    with pytest.raises(CorruptedError, match="not valid CycloneDX"):
        parse_sbom(document)


def test_components_nested_without_end_are_refused() -> None:
    inner: dict[str, object] = {"type": "file", "name": "x"}
    for _ in range(50):
        inner = {"type": "file", "name": "x", "components": [inner]}
    with pytest.raises(CorruptedError, match="nested deeper"):
        parse_sbom(json.dumps({"components": [inner]}).encode())


def test_two_components_with_one_different_field_have_two_identities() -> None:
    base = BundleComponent("library", "a", "1", "p", "MIT", ("d",))
    others = [
        BundleComponent("file", "a", "1", "p", "MIT", ("d",)),
        BundleComponent("library", "b", "1", "p", "MIT", ("d",)),
        BundleComponent("library", "a", "2", "p", "MIT", ("d",)),
        BundleComponent("library", "a", "1", "q", "MIT", ("d",)),
        BundleComponent("library", "a", "1", "p", "BSD", ("d",)),
        BundleComponent("library", "a", "1", "p", "MIT", ("d", "e")),
    ]
    assert len({one.identity() for one in (base, *others)}) == 7


def test_names_that_pypi_takes_for_one_have_one_key() -> None:
    assert {name_key(one) for one in ("A.b_c", "a-b-c", "a--b.-c")} == {"a-b-c"}
