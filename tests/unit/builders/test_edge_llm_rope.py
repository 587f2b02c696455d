"""Rotary embeddings beside numbers of transformers and of NVIDIA's own tests."""

from __future__ import annotations

import math
from typing import Any

import edge_llm_rope
import numpy as np
import pytest

CONFIG: dict[str, Any] = {"head_dim": 128, "rope_theta": 500000.0, "rope_scaling": None}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def table(positions: list[int], **scaling: Any) -> np.ndarray:
    config = {**CONFIG, "rope_scaling": scaling or None}
    return np.asarray(edge_llm_rope.cosines_and_sines(config, np.array(positions, np.int32)))


def test_cosines_come_first_and_each_dimension_turns_slower() -> None:
    found = table([3])[0]
    for place in (0, 1, 63):
        angle = 3 * 500000.0 ** (-place / 64)
        assert found[place] == pytest.approx(math.cos(angle), abs=1e-6)
        assert found[place + 64] == pytest.approx(math.sin(angle), abs=1e-6)


# Dimension, position, inverse frequency: NVIDIA's ropeConfigTest, from transformers for Llama 3.1.
@pytest.mark.parametrize(
    ("dimension", "position", "frequency"),
    [
        (0, 1, 1.0),
        (20, 128, 1.656044008099e-02),
        (33, 4096, 3.126937503841e-04),
        (36, 4096, 7.784655273932e-05),
        (40, 4096, 3.428102195953e-05),
    ],
)
def test_llama3_keeps_short_waves_and_stretches_long_ones(
    dimension: int, position: int, frequency: float
) -> None:
    found = table([position], **LLAMA3)[0]
    assert found[dimension] == pytest.approx(math.cos(position * frequency), abs=1e-4)
    assert found[dimension + 64] == pytest.approx(math.sin(position * frequency), abs=1e-4)


def test_yarn_scales_by_the_published_magnitude_and_stretches_the_slowest() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    found = table([0, 1000], **yarn)
    assert found[0, :64] == pytest.approx(0.1 * math.log(4) + 1)
    slow = 1000 * 500000.0 ** (-63 / 64) / 4
    assert found[1, 127] == pytest.approx(math.sin(slow) * (0.1 * math.log(4) + 1), rel=1e-4)
    assert table([0], **yarn, attention_factor=1.5)[0, 0] == pytest.approx(1.5)


def test_alpha_of_a_dynamic_one_changes_the_base() -> None:
    found = table([7], type="dynamic", alpha=1000.0, factor=1.0)[0]
    base = 500000.0 * 1000.0 ** (128 / 126)
    assert found[10] == pytest.approx(math.cos(7 * base ** (-10 / 64)), abs=1e-5)


def test_type_that_the_runtime_does_not_know_is_computed_as_it_computes_it() -> None:
    """So that a receipt shows the damage: the runtime takes `linear` for `default`."""
    assert np.array_equal(table([9], type="linear", factor=4.0), table([9]))


@pytest.mark.parametrize("kind", ["longrope", "mrope", "nope", "proportional"])
def test_type_that_is_not_computed_here_is_refused(kind: str) -> None:
    with pytest.raises(edge_llm_rope.RopeError, match=kind):
        table([1], rope_type=kind)
