"""The bill of materials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from forge.errors import ConfigurationError
from forge.release.attest.sbom import Requirement, parse_lock, write_sbom
from forge.serving.repository.spec import write_spec
from tests.support.spec import a_spec

LOCK = """\
# made by a tool
--no-binary none
numpy==2.1.0 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via something
Typing_Extensions==4.12.2 ; python_version < "3.13" \\
    --hash=sha256:{a}
openvino[extra]==2026.1.0 --hash=sha256:{b}  # the runtime
""".format(a="a" * 64, b="b" * 64)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "models/llm/1/engine").mkdir(parents=True)
    (folder / "models/llm/1/engine/openvino.bin").write_bytes(b"weights")
    (folder / "runtime").mkdir()
    (folder / "runtime/requirements.lock").write_text(LOCK)
    write_spec(folder, a_spec())
    return folder


def sbom(repository: Path, output: Path) -> bytes:
    output.mkdir(exist_ok=True)
    write_sbom(repository, output)
    return (output / "sbom.cdx.json").read_bytes()


def test_lock_is_read_with_names_normalised_and_hashes() -> None:
    assert parse_lock(LOCK) == (
        Requirement("numpy", "2.1.0", ("a" * 64, "b" * 64)),
        Requirement("openvino", "2026.1.0", ("b" * 64,)),
        Requirement("typing-extensions", "4.12.2", ("a" * 64,)),
    )


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "https://example.org/x.whl", "numpy @ x"])
def test_line_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError, match="does not pin a version"):
        parse_lock(f"{line}\n")


def test_sbom_names_packages_with_purl_and_hashes_and_the_engines_files(
    repository: Path, tmp_path: Path
) -> None:
    document = json.loads(sbom(repository, tmp_path / "out"))
    assert [one["purl"] for one in document["components"]] == [
        "pkg:pypi/numpy@2.1.0",
        "pkg:pypi/openvino@2026.1.0",
        "pkg:pypi/typing-extensions@4.12.2",
    ]
    assert len(document["components"][0]["hashes"]) == 2
    engine = document["metadata"]["component"]
    assert (engine["type"], engine["name"]) == ("machine-learning-model", "llm")
    assert engine["properties"] == [
        {"name": "forge:builder", "value": "openvino"},
        {"name": "forge:runtime:openvino", "value": "2026.1.0"},
    ]
    assert engine["components"][0]["name"] == "models/llm/1/engine/openvino.bin"


def test_sbom_is_valid_by_the_schema_of_cyclonedx(repository: Path, tmp_path: Path) -> None:
    text = sbom(repository, tmp_path / "out").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_same_repository_makes_the_same_bytes_and_another_does_not(
    repository: Path, tmp_path: Path
) -> None:
    first = sbom(repository, tmp_path / "1")
    assert sbom(repository, tmp_path / "2") == first
    (repository / "models/llm/1/engine/openvino.bin").write_bytes(b"others")
    other = sbom(repository, tmp_path / "3")
    assert json.loads(other)["serialNumber"] != json.loads(first)["serialNumber"]
