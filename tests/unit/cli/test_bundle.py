"""`forge bundle show`: who signed the checkpoint of a version."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from forge.cli import main
from forge.release.attest.predicates import Predicate
from forge.trust.predicates import CHECKPOINT, CHECKPOINT_TYPE
from tests.support.release_world import World
from tests.support.signed_checkpoints import verified


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path)
    by_mail = verified(method="certificate", identity="models@vendor.example")
    for version, record in (("1.0.0", None), ("1.1.0", verified()), ("1.2.0", by_mail)):
        content = record and record.model_dump(mode="json")
        made.release(
            version, *([Predicate(CHECKPOINT, CHECKPOINT_TYPE, content)] if content else ())
        )
    return made


def shown(world: World, version: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["bundle", "show", version, "--store", str(world.folder / "store"), *more]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("1.0.0", "not checked"),
        ("1.1.0", f"by key sha256:{'f' * 16}, 3 files, signature {'5' * 16}"),
        ("1.2.0", f"by models@vendor.example, certificate sha256:{'f' * 16}, 3 files"),
    ],
)
def test_signer_of_the_checkpoint_is_shown(
    world: World, capsys: pytest.CaptureFixture[str], version: str, says: str
) -> None:
    assert re.search(rf"checkpoint signed\s+{re.escape(says)}", shown(world, version, capsys))


def test_signer_of_the_checkpoint_is_in_the_json_or_null(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (without,) = json.loads(shown(world, "1.0.0", capsys, "--json"))
    assert without["checkpoint_signature"] is None
    (found,) = json.loads(shown(world, "1.1.0", capsys, "--json"))
    assert found["checkpoint_signature"] == verified().model_dump(mode="json")
