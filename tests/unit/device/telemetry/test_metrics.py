"""The document of /metrics as prometheus_client's own parser reads it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forge.device.shared.upstream import Upstream
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.device_samples import device_samples
from forge.device.telemetry.metrics import (
    COUNTERS,
    HISTOGRAMS,
    RENAMED,
    SAMPLED,
    Metrics,
    Sample,
    count_answer,
)
from tests.support.scrape import scrape

# The names that dashboards and alerts use: none may go.
NAMES = {
    f"forge_device_{name}"
    for name in (
        *("info", "state", "ready", "uptime_seconds", "crashes_in_a_row"),
        *("num_requests_running", "num_requests_waiting", "requests_limit", "requests_limit_max"),
        *("limit_changes_total", "queued_total", "queue_seconds_total", "requests_total"),
        *("stream_errors_total", "request_success_total", "prompt_tokens_total"),
        *("generation_tokens_total", "time_to_first_token_seconds"),
        *("inter_token_latency_seconds", "request_queue_time_seconds"),
        *("e2e_request_latency_seconds", "request_prompt_tokens", "request_generation_tokens"),
        *("events_total", "fetched_bytes_total", "reused_bytes_total"),
        *("temperature_celsius", "throttle_celsius", "lost_temperature_readings_total"),
        *("gpu_power_limit_watts", "channel_check_timestamp_seconds", "channel_check_failed"),
        *("metadata_expiry_timestamp_seconds", "model_requests_total", "model_executions_total"),
        *("model_requests_pending", "model_queue_seconds_total", "model_compute_seconds_total"),
        *("memory_used_bytes", "memory_bytes", "gpu_memory_used_bytes", "gpu_memory_bytes"),
        *("gpu_power_watts", "gpu_utilization_ratio"),
    )
}
OLD_NAMES = {
    "forge_device_requests_in_flight", "forge_device_requests_waiting",
    "forge_device_inter_token_seconds", "forge_device_queue_wait_seconds",
    "forge_device_request_seconds",
}  # fmt: skip
# What vLLM's dashboards ask for, with `forge_device_` in place of `vllm:`.
VLLM = {
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_prompt_tokens", "request_generation_tokens",
    "prompt_tokens_total", "generation_tokens_total", "request_success_total",
    "num_requests_running", "num_requests_waiting",
}  # fmt: skip


def test_families_keep_their_names() -> None:
    assert {*COUNTERS, *HISTOGRAMS, *SAMPLED} >= NAMES
    assert set(RENAMED) == OLD_NAMES


def test_what_vllm_has_has_vllms_name() -> None:
    assert {*COUNTERS, *HISTOGRAMS, *SAMPLED} >= {f"forge_device_{name}" for name in VLLM}


def test_an_old_name_has_the_samples_of_the_new_one() -> None:
    metrics = Metrics()
    metrics.observe("forge_device_e2e_request_latency_seconds", 0.7, outcome="complete")
    metrics.observe("forge_device_request_queue_time_seconds", 0.2)
    metrics.collect_from(lambda: (Sample("forge_device_num_requests_running", (), 3),))
    numbers = scrape(metrics.render().decode())
    assert numbers["forge_device_requests_in_flight"] == 3
    for old, new in (("request_seconds", "e2e_request_latency_seconds"),
                     ("queue_wait_seconds", "request_queue_time_seconds")):  # fmt: skip
        copies = {
            name.replace(f"forge_device_{old}", f"forge_device_{new}"): value
            for name, value in numbers.items()
            if name.startswith(f"forge_device_{old}_")
        }
        assert len(copies) > 3
        assert copies == {name: numbers[name] for name in copies}


def test_an_answer_is_counted_with_its_tokens_and_what_ended_it() -> None:
    metrics = Metrics()
    count_answer(metrics, 100, 7, "stop")
    count_answer(metrics, 40, 32, "length")
    numbers = scrape(metrics.render().decode())
    assert numbers['forge_device_request_success_total{finished_reason="stop"}'] == 1
    assert numbers['forge_device_request_success_total{finished_reason="length"}'] == 1
    assert numbers["forge_device_prompt_tokens_total"] == 140
    assert numbers["forge_device_generation_tokens_total"] == 39
    assert numbers['forge_device_request_prompt_tokens_bucket{le="50.0"}'] == 1
    assert numbers["forge_device_request_prompt_tokens_sum"] == 140
    assert numbers["forge_device_request_generation_tokens_count"] == 2


def test_counters_histograms_and_samples_are_one_document() -> None:
    metrics = Metrics()
    metrics.add("forge_device_requests_total", code="200")
    metrics.add("forge_device_requests_total", code="200")
    metrics.add("forge_device_requests_total", code="429")
    for seconds in (0.002, 0.003, 12.0):
        metrics.observe("forge_device_request_queue_time_seconds", seconds)
    metrics.observe("forge_device_e2e_request_latency_seconds", 0.5, outcome="error")
    limit = Sample("forge_device_requests_limit", (), 4)
    down = Sample("forge_device_limit_changes_total", (("direction", "down"),), 1)
    metrics.collect_from(lambda: (limit, down))
    numbers = scrape(metrics.render().decode())
    assert numbers['forge_device_requests_total{code="200"}'] == 2
    assert numbers['forge_device_requests_total{code="429"}'] == 1
    assert numbers['forge_device_request_queue_time_seconds_bucket{le="0.001"}'] == 0
    assert numbers['forge_device_request_queue_time_seconds_bucket{le="0.005"}'] == 2
    assert numbers['forge_device_request_queue_time_seconds_bucket{le="+Inf"}'] == 3
    assert numbers["forge_device_request_queue_time_seconds_sum"] == pytest.approx(12.005)
    assert numbers['forge_device_e2e_request_latency_seconds_count{outcome="error"}'] == 1
    assert numbers["forge_device_requests_limit"] == 4
    assert numbers['forge_device_limit_changes_total{direction="down"}'] == 1


def test_each_family_is_declared_once_with_type_and_help() -> None:
    metrics = Metrics()
    metrics.collect_from(lambda: device_samples(Journal(), Upstream(), 1.5))
    metrics.collect_from(
        lambda: device_samples(Journal(), Upstream(), 1.5)
    )  # families are not repeated
    text = metrics.render().decode()
    types = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
    assert len(types) == len(dict(types))
    assert dict(types)["forge_device_ready"] == "gauge"
    assert dict(types)["forge_device_requests_total"] == "counter"
    assert dict(types)["forge_device_e2e_request_latency_seconds"] == "histogram"
    known = {*COUNTERS, *HISTOGRAMS, *SAMPLED, *RENAMED}
    assert set(dict(types)) <= known  # no _created, no process or Python metrics
    assert all(family.documentation for family in text_string_to_metric_families(text))


def test_two_registries_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.add("forge_device_stream_errors_total")
    assert scrape(second.render().decode())["forge_device_stream_errors_total"] == 0


def test_counting_from_several_threads_loses_nothing() -> None:
    metrics = Metrics()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(800):
            pool.submit(metrics.add, "forge_device_requests_total", code="200")
    assert scrape(metrics.render().decode())['forge_device_requests_total{code="200"}'] == 800
