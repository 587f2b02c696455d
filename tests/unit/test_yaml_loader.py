"""YAML that PyYAML fails at with errors of its own kind."""

import pytest
import yaml

from forge import yaml_loader


def test_a_document_is_read() -> None:
    assert yaml_loader.load("a: [1, two]") == {"a": [1, "two"]}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "9" * 5000,
        "!!timestamp x",
        "2026-99-99",
        "? [a]\n: b",
        "a: 1\na: 2",
        "{a",
        "\x00",
    ],
)
def test_what_is_no_document_is_a_yaml_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        yaml_loader.load(text)
