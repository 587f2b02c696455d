"""The signed statement of a step's result: what is in it, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from forge.errors import CorruptedError, UsageError
from forge.store.formats.names import is_object, signed_name
from forge.store.formats.signed_result import parse_statement, result_statement, unverified_result
from tests.support.trusted_builders import KEY, made

Json = dict[str, Any]


def test_statement_is_one_by_the_types_of_in_toto() -> None:
    document = json.loads(result_statement(made(), "hosted"))
    parsed = ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert [(one.name, dict(one.digest)) for one in parsed.subject] == [
        ("engine", {"sha256": "c" * 64})
    ]


def test_result_comes_back_with_all_of_its_fields_and_the_name_of_its_builder() -> None:
    found = parse_statement(result_statement(made(), "hosted"))
    assert found.builder == "hosted"
    assert found.model_copy(update={"builder": ""}) == made()


def test_result_without_outputs_is_one_too() -> None:
    gate = made(outputs={})
    assert parse_statement(result_statement(gate, "hosted")).outputs == {}


def changed(change: Callable[[Json], None]) -> bytes:
    document = json.loads(result_statement(made(), "hosted"))
    change(document)
    return json.dumps(document).encode()


WRONG: dict[str, Callable[[Json], None]] = {
    "another statement": lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda d: d.update(predicateType="urn:forge:predicate:accuracy:1"),
    "another subject": lambda d: d["subject"][0]["digest"].update(sha256="d" * 64),
    "no subject": lambda d: d.update(subject=[]),
    "a subject more": lambda d: d["subject"].append({"name": "x", "digest": {"sha256": "d" * 64}}),
    "unknown field": lambda d: d["predicate"].update(more=1),
    "no result": lambda d: d["predicate"].pop("result"),
    "builder with a slash": lambda d: d["predicate"].update(builder="../hosted"),
    "key is no digest": lambda d: d["predicate"]["result"].update(key="x"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_statement_that_is_not_that_of_a_result_is_refused(change: Callable[[Json], None]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_statement(changed(change))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"payload": "*"}', b"[" * 100_000])
def test_object_that_is_no_envelope_is_damaged(data: bytes) -> None:
    with pytest.raises(CorruptedError, match="signed/x is not a signed result"):
        unverified_result(data, "signed/x")


def test_result_can_be_read_without_the_keys() -> None:
    payload = base64.b64encode(result_statement(made(), "hosted")).decode()
    envelope = json.dumps({"payload": payload, "payloadType": "x", "signatures": []}).encode()
    assert unverified_result(envelope, "signed/x").outputs == made().outputs


def test_name_of_a_signed_result_is_below_its_builder() -> None:
    assert signed_name("hosted", KEY) == f"signed/hosted/{KEY}.json"
    assert is_object(signed_name("hosted", KEY))
    assert not is_object(f"signed/{KEY}.json")
    assert not is_object(f"signed/a/b/{KEY}.json")
    with pytest.raises(UsageError):
        signed_name("hosted", "x")
