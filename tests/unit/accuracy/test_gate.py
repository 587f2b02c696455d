"""The accuracy gate."""

from __future__ import annotations

from typing import Any

import pytest

from forge.accuracy.gate import AccuracySettings, gate, limits_of, require, table
from forge.accuracy.receipt import Receipt
from forge.errors import SmokeGateError
from tests.support.receipts import PROFILE, receipt


def settings(baseline: Receipt | None = None, **limits: Any) -> AccuracySettings:
    return AccuracySettings.model_validate({"accuracy": PROFILE | limits, "baseline": baseline})


def failed(measured: Receipt, wanted: AccuracySettings) -> set[tuple[str, str]]:
    return {(one.section, one.figure) for one in gate(measured, wanted).checks if not one.passed}


def test_a_near_engine_passes() -> None:
    report = gate(receipt(precision="int8", kl_mean=0.002), settings())
    assert report.passed
    require(report)


@pytest.mark.parametrize("section", ["short", "batch", "long", "decode"])
@pytest.mark.parametrize(
    ("figure", "value"), [("kl_mean", 0.021), ("same_top", 0.86), ("perplexity_ratio", 1.041)]
)
def test_each_figure_of_each_section_counts(section: str, figure: str, value: float) -> None:
    changed: dict[str, Any] = {figure: value}
    measured = receipt(precision="int8", only=section, **changed)
    assert failed(measured, settings()) == {(section, figure)}
    with pytest.raises(SmokeGateError, match="does not compute") as caught:
        require(gate(measured, settings()))
    assert f"{section}: {figure} {value:.4g}, limit" in caught.value.why


@pytest.mark.parametrize("figure", ["kl_mean", "same_top", "perplexity_ratio"])
def test_a_figure_that_is_no_number_fails(figure: str) -> None:
    changed: dict[str, Any] = {figure: None}
    measured = receipt(precision="int8", only="long", **changed)
    assert failed(measured, settings(kl_mean=9, same_top=0.1, perplexity_ratio=9)) == {
        ("long", figure)
    }


@pytest.mark.parametrize(
    ("coarse", "fine"), [("int4", "q5_k"), ("q5_k", "int8"), ("int8", "fp16"), ("nvfp4", "fp8")]
)
def test_fewer_bits_may_differ_more(coarse: str, fine: str) -> None:
    one, other = limits_of(coarse), limits_of(fine)
    assert one.kl_mean > other.kl_mean
    assert one.same_top < other.same_top


def test_names_of_precisions_are_those_of_every_tool() -> None:
    assert limits_of("Q8_0") == limits_of("int8") == limits_of("fp8") == limits_of("u8")
    assert limits_of("float16") == limits_of("fp16") == limits_of("bfloat16")
    assert limits_of("a new one") == limits_of("fp16")  # the strictest


def test_limits_of_the_profile_replace_those_of_the_precision() -> None:
    measured = receipt(precision="fp16", kl_mean=0.2)
    assert failed(measured, settings())
    assert not failed(measured, settings(kl_mean=0.3))


def test_an_engine_much_worse_than_the_last_one_fails_inside_the_limits() -> None:
    before = receipt(precision="int8", kl_mean=0.002)
    assert not failed(receipt(precision="int8", kl_mean=0.0034), settings(before))
    assert ("short", "kl_mean") in failed(
        receipt(precision="int8", kl_mean=0.0036), settings(before)
    )


@pytest.mark.parametrize("change", ["precision", "text"])
def test_a_receipt_of_another_kind_is_no_baseline(change: str) -> None:
    before = receipt(
        precision="fp16" if change == "precision" else "int8",
        text="1" * 64 if change == "text" else "0" * 64,
        kl_mean=0.0001,
    )
    assert not failed(receipt(precision="int8", kl_mean=0.009), settings(before))


def test_table_shows_each_section() -> None:
    lines = table(receipt(precision="int8", kl_mean=0.002)).splitlines()
    assert lines[0].split() == (
        ["section", "positions", "KL", "mean", "KL", "p99", "same", "top", "perplexity", "ratio"]
    )
    assert lines[1].split() == ["batch", "1140", "0.002", "0.02", "98.0%", "1.001"]
    assert [line.split()[0] for line in lines[1:]] == ["batch", "decode", "long", "short"]
