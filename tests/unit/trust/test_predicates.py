"""Predicates: signed by `forge.release.attest.predicates`, believed or not by `forge.trust`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope

from forge import canonical
from forge.errors import TrustError
from forge.release.attest.predicates import Predicate, signed_predicate, write_predicate
from forge.trust.envelope import PAYLOAD_TYPE
from forge.trust.predicates import MAX_PREDICATE_BYTES, verify_predicate
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import World

TREE = "ab" * 32
KIND = "urn:forge:predicate:performance:1"
CONTENT: dict[str, Any] = {"figures": [1, 2.5, None, "é"], "of": {"a": True}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


@pytest.fixture
def keys(world: World) -> ProofKeys:
    return world.ring().proof_keys()


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "tree", "digest": {"sha256": TREE}}],
        "predicateType": KIND,
        "predicate": CONTENT,
    } | changes


def signed(world: World, document: Any, *, by: str = "bundles", kind: str = PAYLOAD_TYPE) -> bytes:
    ring = world.ring()
    entry = next(entry for entry in ring.file.keys if entry.name == by)
    envelope = Envelope(canonical.dumps(document), kind, {})
    envelope.sign(ring.signer(entry))
    return canonical.dumps(envelope.to_dict())


def verify(data: bytes, keys: ProofKeys) -> dict[str, Any]:
    return verify_predicate(data, keys, tree=TREE, predicate_type=KIND)


def test_integers_stay_integers(world: World, keys: ProofKeys) -> None:
    data = signed_predicate(KIND, TREE, {"tokens": 32, "share": 32.0}, world.ring())
    payload = base64.b64decode(json.loads(data)["payload"])
    assert b'"tokens":32}' in payload
    assert type(verify(data, keys)["tokens"]) is int


def test_predicate_comes_back_as_it_was_signed(world: World, keys: ProofKeys) -> None:
    data = signed_predicate(KIND, TREE, CONTENT, world.ring())
    assert verify(data, keys) == CONTENT


def test_statement_is_what_in_toto_s_tools_read(world: World) -> None:
    envelope = json.loads(signed_predicate(KIND, TREE, CONTENT, world.ring()))
    assert json.loads(base64.b64decode(envelope["payload"])) == statement()
    assert envelope["payloadType"] == "application/vnd.in-toto+json"


def test_file_of_a_predicate_has_the_digest_that_is_returned(world: World) -> None:
    one = Predicate("x.dsse.json", KIND, CONTENT)
    digest = write_predicate(one, TREE, world.ring(), world.folder)
    assert canonical.sha256((world.folder / "x.dsse.json").read_bytes()) == digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "its type is 'https://slsa"),
        ({"subject": [{"name": "tree", "digest": {"sha256": "cd" * 32}}]}, "it is for tree cdcd"),
        ({"subject": [{"name": "file", "digest": {"sha256": TREE}}]}, "it is for tree none"),
        ({"subject": []}, "not a valid statement, subject"),
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "not a valid statement, _type"),
        ({"predicate": []}, "not a valid statement, predicate"),
    ],
)
def test_statement_about_something_else_is_refused(
    world: World, keys: ProofKeys, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrustError, match=f"predicate {KIND} of this bundle") as caught:
        verify(signed(world, statement(**changes)), keys)
    assert said in caught.value.why


def test_predicate_signed_by_a_key_of_another_role_is_refused(
    world: World, keys: ProofKeys
) -> None:
    with pytest.raises(TrustError) as caught:
        verify(signed(world, statement(), by="channels"), keys)
    assert "not signed by a trusted build key" in caught.value.why


def test_changed_figure_is_refused(world: World, keys: ProofKeys) -> None:
    envelope = json.loads(signed_predicate(KIND, TREE, CONTENT, world.ring()))
    changed = base64.b64decode(envelope["payload"]).replace(b"2.5", b"9.5")
    envelope["payload"] = base64.b64encode(changed).decode()
    with pytest.raises(TrustError, match="could not be verified"):
        verify(json.dumps(envelope).encode(), keys)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff"])
def test_bytes_that_are_no_envelope_are_refused(keys: ProofKeys, data: bytes) -> None:
    with pytest.raises(TrustError, match="could not be verified"):
        verify(data, keys)


def test_envelope_of_another_payload_type_is_refused(world: World, keys: ProofKeys) -> None:
    with pytest.raises(TrustError, match="could not be verified"):
        verify(signed(world, statement(), kind="application/json"), keys)


def test_envelope_that_is_too_large_is_not_parsed(keys: ProofKeys) -> None:
    with pytest.raises(TrustError) as caught:
        verify(b" " * (MAX_PREDICATE_BYTES + 1), keys)
    assert "larger than" in caught.value.why
