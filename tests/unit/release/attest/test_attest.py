"""The three proofs of a model repository."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope

from forge.errors import ConfigurationError, TrustError, UsageError
from forge.release.attest.attest import prove, statement
from forge.steps import Link
from forge.trust.proofs import verify_model_signature
from tests.support.release_world import World

TREE, AT = "ab" * 32, "2026-11-24T04:00:00Z"
ENGINE = "models/m/1/engine"


def link(step: str, inputs: str, outputs: str, seconds: float = 1.0, started: str = AT) -> Link:
    """A link whose trees are named by one letter each; `t` is TREE."""

    def trees(names: str) -> dict[str, str]:
        return {name: TREE if name == "t" else name * 64 for name in names}

    return Link(step, step[0] * 64, trees(inputs), trees(outputs), seconds, started, "local x/y")


LINKS = (link("checkpoint", "", "a"), link("engine", "a", "b"), link("repository", "b", "t"))


def made(links: tuple[Link, ...] = LINKS, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "tree": TREE, "files": {f"{ENGINE}/a": "1" * 64}, "profile": "x", "sbom_sha256": "2" * 64,
    }  # fmt: skip
    return statement(links=links, **given | changes)


def test_statement_is_valid_by_the_types_of_in_toto() -> None:
    parsed = ParseDict(made(), statement_pb2.Statement())
    read = Statement.copy_from_pb(parsed)
    read.validate()
    assert [(one.name, dict(one.digest)) for one in parsed.subject] == [
        ("tree", {"sha256": TREE}),
        (f"{ENGINE}/a", {"sha256": "1" * 64}),
    ]
    assert parsed.predicate_type == "https://slsa.dev/provenance/v1"


def test_subjects_are_sorted_so_that_equal_files_give_equal_bytes() -> None:
    files = {f"{ENGINE}/{name}": name * 64 for name in "cab"}
    seen = {
        json.dumps(made(files=dict(order)), sort_keys=False)
        for order in itertools.permutations(files.items())
    }
    assert len(seen) == 1


def test_dependencies_are_every_tree_but_the_result() -> None:
    definition = made()["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"] == [
        {"name": "checkpoint/a", "digest": {"sha256": "a" * 64}},
        {"name": "engine/b", "digest": {"sha256": "b" * 64}},
    ]
    assert definition["externalParameters"] == {"profile": "x"}
    assert [one["step"] for one in definition["internalParameters"]["steps"]] == [
        "checkpoint", "engine", "repository",
    ]  # fmt: skip


def test_build_began_with_the_first_step_and_ended_with_the_last_to_end() -> None:
    links = (
        link("a", "", "a", seconds=7200.4, started="2026-11-24T04:00:00Z"),
        link("b", "a", "t", seconds=60, started="2026-11-24T05:00:00Z"),
    )
    run = made(links)["predicate"]["runDetails"]
    assert run["metadata"]["startedOn"] == "2026-11-24T04:00:00Z"
    assert run["metadata"]["finishedOn"] == "2026-11-24T06:00:00Z"
    assert run["metadata"]["invocationId"] == "b" * 64
    assert run["builder"]["id"] == "urn:forge:runner:local%20x%2Fy"
    assert run["byproducts"] == [{"name": "sbom.cdx.json", "digest": {"sha256": "2" * 64}}]


@pytest.mark.parametrize("links", [(), LINKS[:2]])
def test_tree_that_no_step_produced_is_refused(links: tuple[Link, ...]) -> None:
    with pytest.raises(ConfigurationError, match="No step of the chain produced") as caught:
        made(links)
    assert caught.value.exit_code == 3
    assert "--only" in caught.value.hint


@pytest.mark.parametrize("started", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_start_time_that_is_not_valid_is_refused(started: str) -> None:
    with pytest.raises(ConfigurationError, match="start time of step repository is not valid"):
        made((*LINKS[:2], link("repository", "b", "t", started=started)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, memory=True)
    engine = tmp_path / "tree" / ENGINE
    (engine / "sub").mkdir(parents=True)
    (engine / "a.bin").write_bytes(b"weights")
    (engine / "sub" / "b.bin").write_bytes(b"more")
    (tmp_path / "tree" / "serving.json").write_text('{"repository": "models", "model": "m"}')
    (tmp_path / "sbom").mkdir()
    (tmp_path / "sbom" / "sbom.cdx.json").write_text("{}")
    (tmp_path / "proofs").mkdir()
    return made


def proved(world: World, **changes: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "repository": world.folder / "tree",
        "sbom": world.folder / "sbom",
        "digests": {"repository": TREE},
        "links": LINKS,
        "keyring": world.ring(),
        "output": world.folder / "proofs",
        "profile": "x",
    }
    return prove(**given | changes)


def test_three_files_are_written_with_the_digests_that_are_returned(world: World) -> None:
    digests = proved(world)
    files = {path.name: path.read_bytes() for path in (world.folder / "proofs").iterdir()}
    assert digests == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert set(files) == {"sbom.cdx.json", "provenance.dsse.json", "model.sig"}


def test_envelope_is_signed_with_the_build_key_and_lists_the_engine(world: World) -> None:
    proved(world)
    document = json.loads((world.folder / "proofs/provenance.dsse.json").read_bytes())
    envelope = Envelope.from_dict(document)
    keyring = world.ring()
    envelope.verify([keyring.entries("bundles")[0].public_key()], 1)
    subjects = {one["name"]: one["digest"] for one in json.loads(envelope.payload)["subject"]}
    assert subjects == {
        "tree": {"sha256": TREE},
        f"{ENGINE}/a.bin": {"sha256": hashlib.sha256(b"weights").hexdigest()},
        f"{ENGINE}/sub/b.bin": {"sha256": hashlib.sha256(b"more").hexdigest()},
    }


def test_signature_of_the_engine_fails_after_a_change(world: World) -> None:
    proved(world)
    folder, keys = world.folder, world.ring().proof_keys()
    verify_model_signature(folder / "proofs", folder / "tree", keys)
    (folder / "tree" / ENGINE / "a.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(TrustError):
        verify_model_signature(folder / "proofs", folder / "tree", keys)


def test_steps_that_the_tree_does_not_descend_from_are_left_out(world: World) -> None:
    proved(world, links=(*LINKS, link("other", "a", "z", started="not a time")))
    document = json.loads((world.folder / "proofs/provenance.dsse.json").read_bytes())
    assert b"other" not in Envelope.from_dict(document).payload


@pytest.mark.parametrize("name", ["bundles", "model"])
def test_missing_private_key_is_named_by_its_use(world: World, name: str) -> None:
    (world.keys / f"{name}.pem").unlink()
    what = {"bundles": "no build key that devices trust", "model": "no model key that"}[name]
    with pytest.raises(UsageError, match=what):
        proved(world)


def test_private_key_that_is_not_the_listed_one_is_refused(world: World) -> None:
    (world.keys / "bundles.pem").write_bytes((world.keys / "channels.pem").read_bytes())
    with pytest.raises(UsageError, match="Cannot sign with key bundles"):
        proved(world)
    assert not (world.folder / "proofs" / "provenance.dsse.json").exists()


@pytest.mark.parametrize("digests", [{}, {"repository": "9" * 64}])
def test_repository_that_the_chain_does_not_end_with_is_refused(
    world: World, digests: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="No step of the chain produced the repository"):
        proved(world, digests=digests)
