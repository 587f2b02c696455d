"""Provenance: made by `forge.release.attest.attest`, believed or not by `forge.trust`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope

from forge import canonical
from forge.errors import ConfigurationError, TrustError
from forge.release.attest.attest import statement
from forge.release.attest.invocation import Invocation, SourceCommit
from forge.steps import Link
from forge.trust.proof_keys import ProofKeys, parse_proof_keys
from forge.trust.provenance import PAYLOAD_TYPE, verify_provenance
from tests.support.release_world import World

TREE = "ab" * 32
FILES = {"models/m/1/engine/a.bin": "cd" * 32}
AT, ON = "2026-11-24T04:00:00Z", "local linux/amd64"
LINKS = (
    Link("checkpoint", "1" * 64, {}, {"checkpoint": "2" * 64}, 1.5, AT, ON),
    Link("repository@x", "3" * 64, {"c": "2" * 64}, {"repository": TREE}, 90.0, AT, ON),
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.publish("1.0.0")
    return made


def keys(world: World) -> ProofKeys:
    client = world.client()
    client.refresh()
    return client.proof_keys()


def made(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = statement(
        tree=TREE, files=FILES, links=LINKS, profile="x", sbom_sha256="ef" * 32
    )
    return document | changes


def signed(world: World, document: Any, *, by: str = "bundles", kind: str = PAYLOAD_TYPE) -> bytes:
    ring = world.ring()
    entry = next(entry for entry in ring.file.keys if entry.name == by)
    envelope = Envelope(canonical.dumps(document), kind, {})
    envelope.sign(ring.signer(entry))
    return canonical.dumps(envelope.to_dict())


def test_provenance_says_what_was_built_from_what_where_and_when(world: World) -> None:
    found = verify_provenance(signed(world, made()), keys(world), tree=TREE)
    assert found.files == FILES
    assert found.builder == "urn:forge:runner:local%20linux%2Famd64"
    assert (found.started, found.finished) == (AT, "2026-11-24T04:01:30Z")
    definition = made()["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"profile": "x"}
    assert definition["resolvedDependencies"] == [
        {"name": "checkpoint/checkpoint", "digest": {"sha256": "2" * 64}}
    ]


def test_commit_and_pipeline_are_read_and_missing_in_bundles_of_earlier_versions(
    world: World,
) -> None:
    earlier = verify_provenance(signed(world, made()), keys(world), tree=TREE)
    assert (earlier.pipeline, earlier.source, earlier.commit) == ("", "", "")
    source = SourceCommit(repository="https://host/o/n", commit="ab" * 20, modified=False)
    document = statement(
        tree=TREE, files=FILES, links=LINKS, profile="x", sbom_sha256="ef" * 32,
        invocation=Invocation(pipeline="release", source=source),
    )  # fmt: skip
    found = verify_provenance(signed(world, document), keys(world), tree=TREE)
    assert found.pipeline == "release"
    assert (found.source, found.commit) == ("git+https://host/o/n", "ab" * 20)


def test_provenance_of_a_bundle_of_an_earlier_version_is_valid(world: World) -> None:
    """As commit d494d3e wrote it: no pipeline, no version of the builder, build type 1."""
    predicate = {
        "buildDefinition": {
            "buildType": "urn:forge:build-type:pipeline:1",
            "externalParameters": {"profile": "x"},
            "internalParameters": {"steps": [{"step": "r", "key": "3" * 64, "runner": ON}]},
            "resolvedDependencies": [{"name": "c/c", "digest": {"sha256": "2" * 64}}],
        },
        "runDetails": {
            "builder": {"id": "urn:forge:runner:local%20linux%2Famd64"},
            "metadata": {"invocationId": "3" * 64, "startedOn": AT, "finishedOn": AT},
        },
    }
    found = verify_provenance(signed(world, made(predicate=predicate)), keys(world), tree=TREE)
    assert found.build_type == "urn:forge:build-type:pipeline:1"


def test_same_chain_makes_the_same_bytes(world: World) -> None:
    assert signed(world, made()) == signed(world, made())


def test_tree_that_no_link_made_cannot_be_proved() -> None:
    with pytest.raises(ConfigurationError, match="No step of the chain produced the repository"):
        statement(tree="9" * 64, files={}, links=LINKS, profile="x", sbom_sha256="")


def test_provenance_of_another_tree_is_refused(world: World) -> None:
    with pytest.raises(TrustError, match="it is for tree abababababab, not 999999999999"):
        verify_provenance(signed(world, made()), keys(world), tree="9" * 64)


@pytest.mark.parametrize("name", ["channels", "online", "targets", "root-1"])
def test_provenance_signed_by_any_other_key_is_refused(world: World, name: str) -> None:
    data = signed(world, made(), by=name)
    with pytest.raises(TrustError, match="it is not signed by a trusted build key"):
        verify_provenance(data, keys(world), tree=TREE)


def test_altered_payload_is_refused(world: World) -> None:
    envelope = json.loads(signed(world, made()))
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["subject"][1]["digest"]["sha256"] = "0" * 64
    envelope["payload"] = base64.b64encode(canonical.dumps(payload)).decode()
    with pytest.raises(TrustError, match="it is not signed by a trusted build key"):
        verify_provenance(canonical.dumps(envelope), keys(world), tree=TREE)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type"),
        ({"predicateType": "https://slsa.dev/provenance/v0.2"}, "predicateType"),
        ({"subject": []}, "subject"),
        ({"subject": [{"name": "tree", "digest": {"md5": "x"}}]}, "subject.0.digest.sha256"),
        ({"subject": [{"name": "other", "digest": {"sha256": TREE}}]}, "for tree none"),
        ({"predicate": {}}, "predicate.buildDefinition"),
    ],
)
def test_signed_statement_that_is_no_provenance_of_the_tree_is_refused(
    world: World, change: dict[str, Any], phrase: str
) -> None:
    with pytest.raises(TrustError) as caught:
        verify_provenance(signed(world, made(**change)), keys(world), tree=TREE)
    assert phrase in caught.value.why


def test_other_payload_type_is_refused(world: World) -> None:
    data = signed(world, made(), kind="application/json")
    with pytest.raises(TrustError, match="its payload type is 'application/json'"):
        verify_provenance(data, keys(world), tree=TREE)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"payload": "?", "payloadType": 1, "signatures": [{}]}']
)
def test_bytes_that_are_no_envelope_are_refused(world: World, data: bytes) -> None:
    with pytest.raises(TrustError, match="could not be verified") as caught:
        verify_provenance(data, keys(world), tree=TREE)
    assert caught.value.exit_code == 7


def test_envelope_without_signatures_is_refused(world: World) -> None:
    envelope = json.loads(signed(world, made())) | {"signatures": []}
    with pytest.raises(TrustError, match="it is not signed by a trusted build key"):
        verify_provenance(canonical.dumps(envelope), keys(world), tree=TREE)


def test_rotated_build_key_is_believed_for_old_proofs_until_it_is_revoked(world: World) -> None:
    old = signed(world, made())
    world.rotate("bundles")
    new = signed(world, made(), by="bundles-2")
    for data in (old, new):
        verify_provenance(data, keys(world), tree=TREE)
    world.rotate("bundles", revoke=True)
    for data in (old, new):
        with pytest.raises(TrustError, match="it is not signed by a trusted build key"):
            verify_provenance(data, keys(world), tree=TREE)
    verify_provenance(signed(world, made(), by="bundles-3"), keys(world), tree=TREE)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"build": [], "model": [], "extra": 1}'])
def test_list_of_proof_keys_that_is_not_valid_is_refused(data: bytes) -> None:
    with pytest.raises(TrustError, match="list of proof keys is not valid"):
        parse_proof_keys(data)
