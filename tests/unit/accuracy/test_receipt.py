"""The receipt document."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from forge.accuracy.receipt import Receipt, accuracy_text, read_receipt
from tests.support.receipts import receipt


def test_a_receipt_is_read_as_it_was_written() -> None:
    written = receipt(precision="int8", kl_mean=None)
    assert Receipt.model_validate_json(written.model_dump_json()) == written


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_figures_are_finite_or_null(value: str) -> None:
    text = receipt(kl_mean=0.123456).model_dump_json().replace("0.123456", value)
    with pytest.raises(ValidationError):
        Receipt.model_validate_json(text)


def test_worst_figures_are_of_any_section() -> None:
    found = receipt(only="decode", kl_mean=0.4, perplexity_ratio=1.2).worst()
    assert (found.kl_mean, found.same_top, found.perplexity_ratio) == (0.4, 0.98, 1.2)
    assert receipt(only="long", same_top=0.5).worst().same_top == 0.5


@pytest.mark.parametrize("figure", ["kl_mean", "same_top", "perplexity_ratio"])
def test_a_figure_that_is_no_number_is_the_worst(figure: str) -> None:
    changed: dict[str, Any] = {figure: None}
    measured = receipt(only="batch", **changed)
    assert getattr(measured.worst(), figure) is None
    assert accuracy_text(measured) == "fp16: not a finite number"


def test_text_has_every_figure_in_one_line() -> None:
    assert accuracy_text(receipt(precision="u8", kl_mean=0.0087)) == (
        "u8: KL 0.0087 nats, same token 98.0%, perplexity x 1.001"
        " (OpenVINO IR, openvino 2026.4.1, CPU)"
    )


def test_receipt_is_read_out_of_its_attestation() -> None:
    predicate = receipt().model_dump(mode="json")
    payload = base64.b64encode(json.dumps({"predicate": predicate}).encode()).decode()
    assert read_receipt(json.dumps({"payload": payload}).encode()) == receipt()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"payload": 3}', '{"payload": "e30="}'])
def test_attestation_that_is_not_valid_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_receipt(text.encode())
