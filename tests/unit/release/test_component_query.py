"""A question about components: what it means, and which versions it finds."""

from __future__ import annotations

import pytest

from forge.errors import UsageError
from forge.release.component_query import parse_query
from forge.release.components import BundleComponent


def package(version: str, name: str = "torch", kind: str = "pypi") -> BundleComponent:
    return BundleComponent("library", name, version, f"pkg:{kind}/{name}@{version}")


@pytest.mark.parametrize(
    ("query", "version", "expected"),
    [
        ("pkg:pypi/torch<3.13", "3.12.9", True),
        ("pkg:pypi/torch<3.13", "3.9", True),  # not by letters
        ("pkg:pypi/torch<3.13", "3.13", False),
        ("pkg:pypi/torch<3.13", "3.13rc1", True),  # a candidate comes before its version
        ("pkg:pypi/torch<=2.5.0", "2.5.0+cu124", True),  # a rebuild of an affected version
        ("pkg:pypi/torch>2.5.0", "2.5.0+cu124", False),
        ("pkg:pypi/torch>=2,<2.6", "2.5.0", True),
        ("pkg:pypi/torch>=2,<2.6", "2.6.0", False),
        ("pkg:pypi/torch!=2.5", "2.5.0", False),
        ("pkg:pypi/torch~=2.5.0", "2.5.3", True),
        ("pkg:pypi/torch@2.5", "2.5.0", True),
        ("pkg:pypi/torch==2.5", "2.5.0", True),
        ("pkg:pypi/torch@2.5", "2.50", False),
        ("pkg:pypi/torch<3", "main", None),
        ("torch<3", "2.5.0", True),
        ("pkg:pypi/torch", "main", True),
    ],
)
def test_versions_are_compared_by_their_order(
    query: str, version: str, *, expected: bool | None
) -> None:
    assert parse_query(query).matches(package(version)) is expected


def test_a_type_and_a_namespace_must_be_equal() -> None:
    model = BundleComponent("machine-learning-model", "a/m", "c1", "pkg:huggingface/a/m@c1")
    assert parse_query("pkg:huggingface/a/m").finds(model)
    assert parse_query("pkg:huggingface/a/m@c1").finds(model)
    assert not parse_query("pkg:huggingface/a/m@c2").finds(model)
    assert not parse_query("pkg:huggingface/b/m").finds(model)
    assert not parse_query("pkg:pypi/m").finds(model)
    assert parse_query("m").finds(model)


def test_names_are_compared_as_pypi_does() -> None:
    found = package("4.12.2", "typing-extensions")
    assert parse_query("pkg:pypi/Typing_Extensions").finds(found)
    assert parse_query("typing.extensions").finds(found)
    assert not parse_query("typing").finds(found)


@pytest.mark.parametrize("text", ["sha256:ABABABAB", "ab" * 6, "ab" * 32])
def test_a_digest_may_be_cut_short(text: str) -> None:
    found = BundleComponent("file", "x", digests=("ab" * 32,))
    assert parse_query(text).finds(found)
    assert not parse_query(text).finds(BundleComponent("file", "x", digests=("cd" * 32,)))


@pytest.mark.parametrize(
    "text",
    ["", " ", "pkg:", "pkg:pypi", "pkg:pypi/", "pkg:pypi/a<", "pkg:pypi/a<b<", "pkg:npm/a<2",
     "sha256:", "sha256:zz", "sha256:abc", "a b", "-x", "<3", "@1", "x" * 600, "pkg:pypi/a@1@2<3"],
)  # fmt: skip
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_query(text)
    assert "forge affected 'pkg:pypi/aiohttp<3.13'" in caught.value.hint
