"""The gate reads weights.json beside the receipt."""

from __future__ import annotations

import pytest

from forge.accuracy.gate import AccuracySettings, gate, require
from forge.accuracy.weights import WeightsComparison
from forge.errors import SmokeGateError
from tests.support.receipts import PROFILE, receipt

SETTINGS = AccuracySettings.model_validate({"accuracy": PROFILE})


def weights(of_allowed: float | None = 0.9, problems: tuple[str, ...] = ()) -> WeightsComparison:
    worst = {"tensor": "blk.3.ffn_up.weight", "of_allowed": of_allowed}
    fields = {"tensors": 272, "compared": 272, "worst": worst}
    found = {**fields, "problems": problems, "problem_count": len(problems)}
    return WeightsComparison.model_validate(found)


def test_weights_within_rounding_pass() -> None:
    assert gate(receipt(precision="int8"), SETTINGS, weights()).passed


@pytest.mark.parametrize("of_allowed", [1.01, 40.0, None])
def test_small_divergence_does_not_excuse_a_wrong_weight(of_allowed: float | None) -> None:
    report = gate(receipt(precision="int8", kl_mean=0.0001), SETTINGS, weights(of_allowed))
    assert {check.section for check in report.checks if not check.passed} == {"weights"}
    with pytest.raises(SmokeGateError, match=r"blk\.3\.ffn_up\.weight"):
        require(report)


def test_tensor_that_is_missing_is_named() -> None:
    report = gate(receipt(), SETTINGS, weights(0.1, ("blk.0.attn_q.weight is not in the engine",)))
    with pytest.raises(SmokeGateError, match=r"blk\.0\.attn_q\.weight is not in the engine"):
        require(report)


def test_builder_without_the_comparison_passes_by_its_receipt() -> None:
    assert gate(receipt(precision="int8"), SETTINGS).passed
