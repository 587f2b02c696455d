"""OpenVINO's own sampler, driven by the serving template, against a reference in numpy."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pytest

from tests.support.serving import ROOT, engine, environment
from tests.support.templates import TEMPLATES

pytestmark = [pytest.mark.slow, pytest.mark.network]

DRAWS = 400


def nucleus(probabilities: Any, top_p: float) -> Any:
    """Probabilities of the likeliest tokens that add up to `top_p`, scaled to 1; others 0."""
    order = np.argsort(-probabilities)
    count = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
    kept = np.zeros_like(probabilities)
    kept[order[:count]] = probabilities[order[:count]]
    return kept / kept.sum()


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    script = ROOT / "tests" / "support" / "nucleus.py"
    python = environment("triton-openvino") / "bin" / "python"
    argv = [str(python), str(script), str(TEMPLATES), str(engine()), "The name of the ship was the"]
    done = subprocess.run(
        [*argv, str(DRAWS)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


KEPT = {
    "top_p 0.6": lambda chances: nucleus(chances, 0.6),
    "top_p 0.3": lambda chances: nucleus(chances, 0.3),
    "top_k 3": lambda chances: where(chances, chances >= np.sort(chances)[-3]),
    "min_p 0.3": lambda chances: where(chances, chances >= 0.3 * chances.max()),
}
# The pipeline's KV cache is quantised, so its logits differ a little: a token at the edge may be
# in or out.
EDGE = {
    "top_p 0.6": lambda chances: nucleus(chances, 0.63),
    "top_p 0.3": lambda chances: nucleus(chances, 0.33),
    "top_k 3": lambda chances: where(chances, chances >= np.sort(chances)[-4]),
    "min_p 0.3": lambda chances: where(chances, chances >= 0.27 * chances.max()),
}


def where(chances: Any, kept: Any) -> Any:
    found = np.where(kept, chances, 0)
    return found / found.sum()


@pytest.mark.parametrize("setting", KEPT)
def test_only_tokens_that_a_setting_keeps_are_drawn_as_often_as_numpy_says(
    measured: dict[str, Any], setting: str
) -> None:
    chances = np.array(measured["probabilities"])
    wanted = KEPT[setting](chances)
    drawn = np.array(measured["drawn"][setting])
    assert all(EDGE[setting](chances)[drawn] > 0)
    found = np.bincount(drawn, minlength=len(wanted)) / len(drawn)
    assert found == pytest.approx(wanted, abs=0.1)
    assert np.abs(found - wanted).sum() / 2 < 0.3  # the total variation, of 400 draws


def test_without_a_setting_tokens_outside_of_the_nucleus_are_drawn_too(
    measured: dict[str, Any],
) -> None:
    inside = nucleus(np.array(measured["probabilities"]), 0.6) > 0
    share = np.mean(~inside[np.array(measured["drawn"]["all"])])
    assert share == pytest.approx(0.4, abs=0.12)


def test_a_seed_repeats_an_answer(measured: dict[str, Any]) -> None:
    first, again, other = measured["seeded"]
    assert first == again != other


def test_penalties_and_lengths_are_obeyed(measured: dict[str, Any]) -> None:
    without, with_penalties = measured["repeated"]
    assert with_penalties < without / 2
    assert measured["long"] == 30


def test_logarithms_are_near_to_those_of_the_graph(measured: dict[str, Any]) -> None:
    chances = np.array(measured["probabilities"])
    token, logprob, top = measured["greedy"][0]
    assert token == chances.argmax()
    assert logprob == pytest.approx(float(np.log(chances[token])), abs=0.1)
    assert top == [[token, logprob]]
    for answered, scored in zip(measured["greedy"], measured["scored"], strict=True):
        assert scored[0] == answered[0]
        assert scored[1] == pytest.approx(answered[1], abs=0.25)  # its KV cache is quantised
        assert scored[2][0][1] >= scored[1]  # the likeliest one is at least as likely
    assert measured["scored"][0][1] == pytest.approx(float(np.log(chances[token])), abs=0.01)


def test_pieces_of_any_tokens_are_what_openvino_decodes_at_once(measured: dict[str, Any]) -> None:
    assert len(measured["pieces"]) > 600
    assert [(pieces, whole) for pieces, whole in measured["pieces"] if pieces != whole] == []


def test_control_tokens_of_a_caller_are_text(measured: dict[str, Any]) -> None:
    assert measured["control"] == 3 * [
        {"special": 0, "text": True, "message": True, "of_the_template": True}
    ]
