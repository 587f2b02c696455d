"""The command of the proofs step."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from forge.canonical import sha256
from forge.checkpoint.verified import VerifiedSignature
from forge.release.steps.prove import main
from forge.smoke.result import Result
from forge.steps import Link
from forge.trust.predicates import CHECKPOINT_TYPE, PERFORMANCE_TYPE, verify_predicate
from forge.trust.provenance import verify_provenance
from tests.support.release_world import PASSPHRASE, World
from tests.support.signed_checkpoints import verified
from tests.support.smoke_results import result

TREE = "ab" * 32
LINK = Link("r", "0" * 64, {}, {"r": TREE}, 1.0, "2026-11-24T00:00:00Z", "local")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    (tmp_path / "repository/models/m/1/engine").mkdir(parents=True)
    (tmp_path / "repository/models/m/1/engine/engine.bin").write_bytes(b"weights")
    (tmp_path / "repository/serving.json").write_text('{"repository": "models", "model": "m"}')
    for name in ("sbom", "output"):
        (tmp_path / name).mkdir()
    (tmp_path / "sbom/sbom.cdx.json").write_text("{}")
    (tmp_path / "digests").write_text(json.dumps({"repository": TREE}))
    (tmp_path / "settings").write_text(json.dumps({"profile": "development"}))
    (tmp_path / "chain").write_text(json.dumps([dataclasses.asdict(LINK)]))
    return World(tmp_path, memory=True)


def command(world: World, *more: str) -> int:
    names = ("repository", "sbom", "digests", "settings", "chain", "keys", "output")
    pairs = [(f"--{name}", str(world.folder / name)) for name in names]
    return main([*(word for pair in pairs for word in pair), *more, "--json"])


def test_command_writes_proofs_of_the_tree_in_digests(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(world) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "sbom.cdx.json", "provenance.dsse.json", "model.sig",
    }  # fmt: skip
    envelope = (world.folder / "output/provenance.dsse.json").read_bytes()
    found = verify_provenance(envelope, world.ring().proof_keys(), tree=TREE)
    assert list(found.files) == ["models/m/1/engine/engine.bin"]


def test_command_signs_what_the_benchmark_measured_of_that_tree(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.folder / "result.json").write_text(result().model_dump_json())
    assert command(world, "--measured", str(world.folder)) == 0
    said = json.loads(capsys.readouterr().out)
    envelope = (world.folder / "output/performance.dsse.json").read_bytes()
    assert said["performance.dsse.json"] == sha256(envelope)
    keys = world.ring().proof_keys()
    found = verify_predicate(envelope, keys, tree=TREE, predicate_type=PERFORMANCE_TYPE)
    assert Result.model_validate_json(json.dumps(found)) == result()


def test_command_signs_who_signed_the_checkpoint_of_that_tree(world: World) -> None:
    (world.folder / "signature.json").write_text(verified().model_dump_json())
    assert command(world, "--checkpoint-signature", str(world.folder)) == 0
    envelope = (world.folder / "output/checkpoint.dsse.json").read_bytes()
    keys = world.ring().proof_keys()
    found = verify_predicate(envelope, keys, tree=TREE, predicate_type=CHECKPOINT_TYPE)
    assert VerifiedSignature.model_validate_json(json.dumps(found)) == verified()


def test_record_of_a_signature_that_is_not_valid_ends_with_3(world: World) -> None:
    (world.folder / "signature.json").write_text("{}")
    assert command(world, "--checkpoint-signature", str(world.folder)) == 3


def test_measurement_that_is_not_valid_ends_with_3(world: World) -> None:
    (world.folder / "result.json").write_text("{}")
    assert command(world, "--measured", str(world.folder)) == 3


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [("chain", "[]", 3), ("chain", "{}", 3), ("digests", "[]", 3), ("keys/keys.json", "", 3)],
)
def test_file_that_is_not_valid_ends_with_its_exit_code_and_no_proofs(
    world: World, name: str, text: str, code: int
) -> None:
    (world.folder / name).write_text(text)
    assert command(world) == code
    assert not (world.folder / "output/provenance.dsse.json").exists()


def test_wrong_passphrase_ends_with_exit_code_2(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", "wrong")
    assert command(world) == 2
    assert "Cannot open the key" in capsys.readouterr().err
