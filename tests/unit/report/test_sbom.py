"""Reading CycloneDX."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forge.errors import CorruptedError
from forge.report.report import SbomPackage
from forge.report.sbom import parse_sbom


def parsed(**document: Any) -> tuple[SbomPackage, ...]:
    return parse_sbom(json.dumps(document).encode(), "sbom").packages


@pytest.mark.parametrize(
    ("licences", "shown"),
    [
        ([], ""),
        ([{"license": {"id": "MIT"}}], "MIT"),
        ([{"license": {"name": "Some licence"}}], "Some licence"),
        ([{"expression": "MIT OR Apache-2.0"}], "MIT OR Apache-2.0"),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "Zlib"}}], "MIT AND Zlib"),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "MIT"}}], "MIT"),
        ([{"license": {}}, {}], ""),
    ],
)
def test_licences_of_a_package(licences: list[dict[str, Any]], shown: str) -> None:
    component = {"name": "a", "version": "1.0", "licenses": licences}
    assert parsed(components=[component]) == (SbomPackage("a", "1.0", shown),)


def test_a_package_may_lack_all_but_its_name() -> None:
    assert parsed(components=[{"name": "a"}]) == (SbomPackage("a", ""),)
    assert parsed() == ()


def test_model_properties_and_files_of_the_engine() -> None:
    component = {
        "name": "llm",
        "properties": [{"name": "forge:builder", "value": "openvino"}, {"name": "other"}],
        "components": [{"type": "file", "name": "a"}, {"type": "data", "name": "b"}],
    }
    found = parse_sbom(json.dumps({"metadata": {"component": component}}).encode(), "sbom")
    assert (found.model, found.files) == ("llm", 1)
    assert found.properties == {"builder": "openvino", "other": ""}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"components": {}}', b'{"components": [{}]}', b"\xff"]
)
def test_another_document_is_damaged(data: bytes) -> None:
    with pytest.raises(CorruptedError, match="sbom of demo is not valid"):
        parse_sbom(data, "sbom of demo")
