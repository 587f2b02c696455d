"""The command of the SBOM step."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from forge.release.steps.sbom import main
from forge.serving.repository.spec import write_spec
from tests.support.spec import a_spec

HASH = "a" * 64


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "models/llm/1/engine").mkdir(parents=True)
    (folder / "models/llm/1/engine/openvino.bin").write_bytes(b"weights")
    (folder / "runtime").mkdir()
    (folder / "runtime/requirements.lock").write_text(f"numpy==2.1.0 --hash=sha256:{HASH}\n")
    write_spec(folder, a_spec())
    (tmp_path / "output").mkdir()
    return folder


def test_command_writes_a_valid_sbom_and_prints_its_digest(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = repository.parent / "output"
    assert main(["--repository", str(repository), "--output", str(output), "--json"]) == 0
    data = (output / "sbom.cdx.json").read_bytes()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    assert json.loads(capsys.readouterr().out) == {
        "files": 1,
        "packages": 1,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_lock_without_a_version_ends_with_exit_code_3(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "runtime/requirements.lock").write_text("numpy>=2\n")
    output = repository.parent / "output"
    assert main(["--repository", str(repository), "--output", str(output)]) == 3
    assert "does not pin a version: numpy>=2" in capsys.readouterr().err
    assert list(output.iterdir()) == []
