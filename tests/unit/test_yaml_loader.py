"""YAML that PyYAML fails at with errors of its own kind."""

import pytest
import yaml

from forge import yaml_loader


def test_a_document_is_read() -> None:
    assert yaml_loader.load("a: [1, two]") == {"a": [1, "two"]}


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1}\nc: *x",
        "[" * 100 + "]" * 100,
        "a: 'it''s'\nb: |\n  two\n  lines\nc: >-\n  one\n  line\nd: [0x1f, 1_000, 1e3, .5, ~]",
        "yes: no\n2: 2026-11-29\n'é': \"\\u00e9\"",
    ],
)
def test_a_document_is_what_pyyamls_own_loader_makes_of_it(text: str) -> None:
    assert yaml_loader.load(text) == yaml.load(text, yaml.SafeLoader)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "- " * 100_000,  # the C library's stack
        "{a: " * 50_000,
        "a: &a {b: *a}",
        "&a [1, [*a]]",
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
