"""Results on disk: schema 2, and schema 1 of earlier versions."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from forge.smoke.result import Estimate, Result, interval, summary
from tests.support.smoke_results import result

PERCENTILES = {"p50": 11.0, "p90": 12.0, "p99": 13.0}
# As version 0.1 wrote it.
SCHEMA_1: dict[str, Any] = {
    "schema_version": 1,
    "created": "2026-11-24T04:00:00Z",
    "machine": {
        "cpu": "test", "cores": 2, "memory_mib": 4096, "gpu": None, "driver": None,
        "power_mode": None, "power_limit_w": None,
    },
    "settings": {
        "prompts": "default",
        "golden": [{"prompt": "What is 2 + 2?", "expect": ["4"], "max_tokens": 8}],
        "concurrency": [1, 4],
        "requests": 4,
        "max_tokens": 8,
    },
    "model": "llm",
    "triton": "2.51.0",
    "runtime": {"openvino": "2026.1.0"},
    "server": {"ready_s": 1.0, "cpu_s": 1.0, "peak_rss_mib": 500.0},
    "golden": [{"prompt": "What is 2 + 2?", "expect": ["4"], "got": "4."}],
    "measured": [
        {
            "concurrency": level, "requests": 4, "errors": 1, "error_rate": 0.25,
            "error_examples": ["broke off"], "seconds": 1.5, "output_tokens": 80,
            "output_tokens_per_s": 53.3 * level, "ttft_ms": PERCENTILES,
            "inter_token_ms": None if level == 4 else PERCENTILES,
        }
        for level in (4, 1)
    ],
}  # fmt: skip


def test_result_of_schema_1_has_the_same_summary_as_it_had() -> None:
    found = Result.model_validate_json(json.dumps(SCHEMA_1))
    assert summary(found).model_dump() == {
        "concurrency": 1,
        "ttft_ms_p50": 11.0,
        "inter_token_ms_p50": 11.0,
        "output_tokens_per_s": 53.3,
        "error_rate": 0.25,
        "peak_rss_mib": 500.0,
        "machine": "test, 2 cores, 4 GiB",
    }


def test_gap_of_schema_1_is_an_inter_chunk_latency_and_no_inter_token_latency() -> None:
    found = Result.model_validate_json(json.dumps(SCHEMA_1)).lowest
    assert found.inter_token_latency is None
    assert found.inter_chunk_latency is not None
    assert found.inter_chunk_latency.p90 == Estimate(mean=12.0)
    assert (found.request_count, found.error_request_count, found.runs) == (3, 1, ())


def test_result_of_schema_1_is_written_as_schema_2() -> None:
    found = Result.model_validate_json(json.dumps(SCHEMA_1))
    written = json.loads(found.model_dump_json())
    assert written["schema_version"] == 2
    assert Result.model_validate_json(found.model_dump_json()) == found


def test_result_comes_back_from_its_json() -> None:
    assert Result.model_validate_json(result().model_dump_json()) == result()


@pytest.mark.parametrize("version", [0, 3, "2"])
def test_result_of_another_schema_is_refused(version: object) -> None:
    document = json.loads(result().model_dump_json()) | {"schema_version": version}
    with pytest.raises(ValidationError, match="schema_version"):
        Result.model_validate_json(json.dumps(document))


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (None, "—"),
        (Estimate(mean=18.123), "18.12 ms"),
        (Estimate(mean=18.123, ci_low=17.5, ci_high=18.746), "18.12 ± 0.62 ms"),
    ],
)
def test_figure_is_shown_with_half_of_its_interval(figure: Estimate | None, text: str) -> None:
    assert interval(figure, "ms") == text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_figure_that_is_not_finite_is_no_result(value: str) -> None:
    """A median of values with NaN may be any of them, and so may a regression be none."""
    text = result().model_dump_json()
    broken = text.replace('"time_to_first_token_ms":300.0', f'"time_to_first_token_ms":{value}', 1)
    assert broken != text
    with pytest.raises(ValidationError, match="finite"):
        Result.model_validate_json(broken)


def test_a_result_from_before_power_was_known_is_read_as_one_that_does_not_know_it() -> None:
    document = json.loads(result().model_dump_json())
    new_of_level = ("energy_per_request", "total_energy", "average_power")
    for measured in document["measured"]:
        for name in new_of_level:
            del measured[name]
        for run in measured["runs"]:
            for name in ("joules_per_request", "energy_j", "average_power_w"):
                del run[name]
    document["conditions"] = {
        "throttled": False, "throttle_reasons": [], "energy_source": "nvidia-smi",
    }  # fmt: skip
    found = Result.model_validate(document)
    assert found.levels == result().levels
    assert (found.conditions.energy_source, found.conditions.energy_of) == ("nvidia-smi", "")
