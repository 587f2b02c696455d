"""The metrics of the device, as prometheus_client's own parser reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from forge.device.shared.release import Release
from forge.device.shared.upstream import Upstream
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.device_samples import count_event, declare_events, device_samples
from forge.device.telemetry.history import DeviceEvent
from forge.device.telemetry.metrics import Metrics, Sample
from tests.support.gateway_app import SERVING
from tests.support.scrape import scrape


def test_event_is_counted_with_its_bytes() -> None:
    metrics = Metrics()
    event = DeviceEvent(at="", event="fetched", fetched_bytes=7, reused_bytes=5)
    count_event(metrics, event)
    count_event(metrics, event)
    numbers = scrape(metrics.render().decode())
    assert numbers['forge_device_events_total{event="fetched"}'] == 2
    assert numbers["forge_device_fetched_bytes_total"] == 14
    assert numbers["forge_device_reused_bytes_total"] == 10


def test_the_first_event_of_a_kind_is_an_increase() -> None:
    metrics = Metrics()
    declare_events(metrics)
    before = scrape(metrics.render().decode())
    assert before['forge_device_events_total{event="not-kept"}'] == 0
    assert before['forge_device_events_total{event="going-back"}'] == 0
    count_event(metrics, DeviceEvent(at="", event="not-kept"))
    after = scrape(metrics.render().decode())
    assert after['forge_device_events_total{event="not-kept"}'] == 1


def test_label_value_is_escaped() -> None:
    release = Release(name='a"\\b', version="1", profile="p\n", manifest="0" * 64)
    journal = Journal(state="committed", active="a", slots={"a": release})
    metrics = Metrics()
    metrics.collect_from(lambda: device_samples(journal, Upstream(), 1))
    [info] = [
        family.samples[0].labels
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name == "forge_device_info"
    ]
    assert (info["name"], info["profile"]) == ('a"\\b', "p\n")


def by_name(samples: tuple[Sample, ...]) -> dict[str, float]:
    return {one.family.removeprefix("forge_device_"): one.value for one in samples}


def labels(samples: tuple[Sample, ...], name: str) -> dict[str, str]:
    [found] = [dict(one.labels) for one in samples if one.family == f"forge_device_{name}"]
    return found


def test_a_device_that_serves_is_ready_and_named() -> None:
    upstream = Upstream()
    upstream.set(SERVING)
    upstream.enter()
    journal = Journal(active="a", slots={"a": SERVING.release}, crashes=2)
    samples = device_samples(journal, upstream, 1.23456)
    found = by_name(samples)
    assert (found["ready"], found["num_requests_running"]) == (1, 1)
    assert (found["crashes_in_a_row"], found["uptime_seconds"]) == (2, 1.235)
    assert labels(samples, "info") == {
        "slot": "a",
        "name": "llm",
        "version": "1.0.0",
        "profile": "development",
        "triton": "2.51.0",
    }
    assert labels(samples, "state") == {"state": "idle"}


def test_requests_that_drain_are_counted_while_nothing_serves() -> None:
    upstream = Upstream()
    upstream.set(SERVING)
    upstream.enter()
    upstream.clear("swap")
    journal = Journal(active="a", slots={"a": SERVING.release})
    found = by_name(device_samples(journal, upstream, 0))
    assert (found["ready"], found["num_requests_running"]) == (0, 1)


def test_a_device_without_a_bundle_has_the_same_labels_and_no_values() -> None:
    """A label that came and went would be another series in each dashboard."""
    samples = device_samples(Journal(), Upstream(), 0)
    assert labels(samples, "info") == dict.fromkeys(
        ("slot", "name", "version", "profile", "triton"), ""
    )


def test_an_event_that_moves_no_bytes_adds_none() -> None:
    metrics = Metrics()
    count_event(metrics, DeviceEvent(at="", event="crashed"))
    numbers = scrape(metrics.render().decode())
    assert numbers['forge_device_events_total{event="crashed"}'] == 1
    assert numbers["forge_device_fetched_bytes_total"] == 0
