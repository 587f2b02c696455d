"""Signed statements about vulnerabilities."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from forge.errors import UsageError
from forge.release.attest.predicates import signed_predicate
from forge.release.vex import (
    JUSTIFICATIONS,
    VexStatement,
    read_statements,
    sign_statement,
    trees_with_statements,
)
from tests.support.release_world import World, manifest

MADE = manifest("1.0.0", "development")
TREE = MADE.tree.digest
STATEMENT = VexStatement(
    "CVE-2026-1", "not_affected", ("pkg:pypi/numpy@2.1.0",), JUSTIFICATIONS[2], "it is not called"
)


def sign(world: World, statement: VexStatement = STATEMENT) -> str:
    return sign_statement(world.objects, world.ring(), MADE, statement, world.now)


def read(world: World, tree: str = TREE) -> tuple[VexStatement, ...]:
    return read_statements(world.objects, world.ring().proof_keys(), tree)


def test_a_statement_is_read_as_it_was_signed(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    sign(world)
    (found,) = read(world)
    assert found == VexStatement(
        STATEMENT.vulnerability, STATEMENT.status, STATEMENT.components, STATEMENT.justification,
        STATEMENT.note, f"{world.now:%Y-%m-%dT%H:%M:%SZ}",
    )  # fmt: skip
    assert trees_with_statements(world.objects) == {TREE}


def test_the_document_is_open_vex(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    envelope = json.loads(world.objects.read(sign(world), max_bytes=100_000).data)
    statement: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["predicateType"] == "https://openvex.dev/ns/v0.2.0"
    document = statement["predicate"]
    # What section "Document" and "Statement" of the specification require.
    assert {"@context", "@id", "author", "timestamp", "version", "statements"} <= set(document)
    (one,) = document["statements"]
    assert one["vulnerability"] == {"name": "CVE-2026-1"}
    assert one["products"][0]["subcomponents"] == [{"@id": "pkg:pypi/numpy@2.1.0"}]
    assert one["products"][0]["hashes"] == {"sha-256": TREE}


def test_the_newest_statement_is_the_first(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    sign(world)
    world.later(days=1)
    sign(world, VexStatement("CVE-2026-1", "affected", ("x",), note="update"))
    assert [one.status for one in read(world)] == ["affected", "not_affected"]


def test_what_other_keys_signed_and_what_is_not_valid_is_ignored(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    name = sign(world)
    good = world.objects.read(name, max_bytes=100_000).data
    other = signed_predicate("urn:other", TREE, {"a": 1}, world.ring())
    broken = signed_predicate("https://openvex.dev/ns/v0.2.0", TREE, {"a": 1}, world.ring())
    for number, data in enumerate((other, broken, b"", b"[]", good.replace(b"a", b"b"))):
        world.objects.write(f"vex/{TREE}/{number:064x}.json", data)
    world.objects.write(f"vex/{'0' * 64}/{'1' * 64}.json", good)  # about another tree
    world.objects.write("vex/x/y.json", good)
    assert len(read(world)) == 1
    assert read(world, "0" * 64) == ()
    assert trees_with_statements(world.objects) == {TREE, "0" * 64}
    world.rotate("bundles", revoke=True)
    assert read(world) == (), "a revoked key says nothing"


@pytest.mark.parametrize(
    "statement",
    [
        VexStatement("CVE-2026-1", "not_affected", ("x",)),
        VexStatement("CVE-2026-1", "not_affected", ("x",), "because"),
        VexStatement("CVE-2026-1", "fixed", ("x",), JUSTIFICATIONS[0]),
        VexStatement("CVE-2026-1", "affected", ("x",)),
        VexStatement("no id", "fixed", ("x",)),
    ],
)
def test_what_open_vex_does_not_allow_is_not_signed(
    tmp_path: Path, statement: VexStatement
) -> None:
    world = World(tmp_path, memory=True)
    with pytest.raises(UsageError):
        sign(world, statement)
    assert trees_with_statements(world.objects) == set()


def test_signing_at_another_time_makes_another_object(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    first = sign(world)
    world.now += timedelta(seconds=1)
    assert sign(world) != first
