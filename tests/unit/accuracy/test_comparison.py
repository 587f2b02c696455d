"""Two builds of one engine are compared by what they compute."""

from __future__ import annotations

from typing import Any

import pytest

from forge.accuracy.comparison import compare
from forge.accuracy.receipt import Receipt
from forge.errors import ConfigurationError
from tests.support.receipts import receipt

SECTIONS = ("short", "batch", "long", "decode")


def differing(first: Receipt, second: Receipt) -> set[tuple[str, str]]:
    found = compare(first, second)
    names: set[tuple[str, str]] = {
        (one.section, one.figure) for one in found.figures if not one.equal
    }
    assert found.equal == (not names)
    return names


def changed(receipt: Receipt, section: str, **fields: Any) -> Receipt:
    """The receipt with other fields of one section."""
    document = receipt.model_dump(mode="json")
    document["sections"][section] |= fields
    return Receipt.model_validate(document)


def test_a_build_equals_itself_in_every_figure() -> None:
    found = compare(receipt(), receipt())
    assert found.equal
    assert {(one.section, one.figure) for one in found.figures} == {
        (section, figure)
        for section in SECTIONS
        for figure in ("kl_mean", "same_top", "perplexity_ratio")
    }


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    ("figure", "near", "far"),
    [("kl_mean", 0.0019, 0.0021), ("same_top", 0.961, 0.959), ("perplexity_ratio", 1.01, 1.012)],
)
def test_each_figure_of_each_section_counts_in_both_directions(
    section: str, figure: str, near: float, far: float
) -> None:
    first = receipt(kl_mean=0.001, same_top=0.98, perplexity_ratio=1.001)
    assert not differing(first, changed(first, section, **{figure: near}))
    other = changed(first, section, **{figure: far})
    assert differing(first, other) == differing(other, first) == {(section, figure)}


def test_a_better_build_is_another_one() -> None:
    first, better = receipt(kl_mean=0.010), receipt(kl_mean=0.002)
    assert differing(first, better) == {(section, "kl_mean") for section in SECTIONS}


@pytest.mark.parametrize("figure", ["kl_mean", "same_top", "perplexity_ratio"])
def test_a_figure_that_is_no_number_equals_none(figure: str) -> None:
    broken = changed(receipt(), "long", **{figure: None})
    assert differing(receipt(), broken) == {("long", figure)}
    assert ("long", figure) in differing(broken, broken)


def test_builds_of_different_precision_are_not_equal() -> None:
    found = compare(receipt(precision="fp16"), receipt(precision="int8"))
    assert not found.equal
    assert found.precision == ("fp16", "int8")


def test_receipts_of_different_references_are_refused() -> None:
    document = receipt().model_dump(mode="json")
    document["reference"]["sha256"] = "b" * 64
    with pytest.raises(ConfigurationError, match="different references"):
        compare(receipt(), Receipt.model_validate(document))


@pytest.mark.parametrize("field", ["positions", "batch", "context"])
def test_receipts_of_different_positions_are_refused(field: str) -> None:
    first = receipt()
    other = changed(first, "batch", **{field: 7})
    with pytest.raises(ConfigurationError, match="different positions") as caught:
        compare(first, other)
    assert "batch" in caught.value.why


def test_receipts_of_different_sections_are_refused() -> None:
    document = receipt().model_dump(mode="json")
    del document["sections"]["batch"]
    with pytest.raises(ConfigurationError, match="different positions"):
        compare(Receipt.model_validate(document), receipt())
