"""Numbers for Prometheus, in its text format (version 0.0.4).

A writer of its own: the format is three kinds of lines, and what is counted here is counted nowhere
else, so a client library would bring its registry, its collectors and its process metrics for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from forge.device.events import Happened
from forge.device.journal import Journal
from forge.device.live import Live

__all__ = ["CONTENT_TYPE", "FAMILIES", "Metrics", "Sample", "of_device"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Name: kind, help. Nothing else is written.
FAMILIES: Final = {
    "forge_device_info": ("gauge", "What is installed; always 1."),
    "forge_device_state": ("gauge", "1 for the state the agent is in."),
    "forge_device_ready": ("gauge", "1 while a committed slot serves."),
    "forge_device_uptime_seconds": ("gauge", "Since the agent began."),
    "forge_device_requests_in_flight": ("gauge", "Answers under way."),
    "forge_device_requests_waiting": ("gauge", "Requests that wait for a place in Triton."),
    "forge_device_requests_limit": (
        "gauge",
        "Requests that may be in Triton at once.",
    ),
    "forge_device_limit_changes_total": ("counter", "Decisions of the governor, by direction."),
    "forge_device_queued_total": ("counter", "Requests that had to wait."),
    "forge_device_queue_seconds_total": ("counter", "Time that requests waited."),
    "forge_device_crashes_in_a_row": ("gauge", "Of the active slot's server."),
    "forge_device_requests_total": ("counter", "Requests for an answer, by HTTP status."),
    "forge_device_stream_errors_total": ("counter", "Streams that ended with an error event."),
    "forge_device_events_total": ("counter", "What happened, as in forge device history."),
    "forge_device_fetched_bytes_total": ("counter", "Read from the store for bundles."),
    "forge_device_reused_bytes_total": ("counter", "Taken from the slots instead."),
}


class Sample(NamedTuple):
    """One number of a family."""

    family: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Metrics:
    """Counters since the agent began, and gauges that are asked when somebody reads."""

    def __init__(self) -> None:
        self.gauges: Callable[[], Iterable[Sample]] = tuple
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, family: str, value: float = 1, **labels: str) -> None:
        """Count; from any thread."""
        key = family, tuple(sorted(labels.items()))
        with self._lock:
            self._counted[key] = self._counted.get(key, 0) + value

    def tell(self, happened: Happened) -> None:
        """Count an event of the device."""
        self.add("forge_device_events_total", event=happened.event)
        self.add("forge_device_fetched_bytes_total", happened.fetched_bytes)
        self.add("forge_device_reused_bytes_total", happened.reused_bytes)

    def render(self, more: Iterable[Sample] = ()) -> str:
        """The document of GET /metrics, with samples that its writer brings along."""
        with self._lock:
            counted = [
                Sample(name, labels, value) for (name, labels), value in self._counted.items()
            ]
        by_family: dict[str, list[str]] = {}
        for sample in (*self.gauges(), *more, *counted):
            by_family.setdefault(sample.family, []).append(_line(sample))
        lines = []
        for family, (kind, text) in FAMILIES.items():
            if family in by_family:
                lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
                lines += sorted(by_family[family])
        return "\n".join((*lines, ""))


def of_device(journal: Journal, live: Live, uptime_s: float) -> tuple[Sample, ...]:
    """What the device is at this moment."""
    serving, _ = live.get()
    release = journal.active_release
    info = {
        "slot": journal.active or "",
        "name": release.name if release else "",
        "version": release.version if release else "",
        "profile": release.profile if release else "",
        "triton": serving.triton if serving else "",
    }
    return (
        Sample("forge_device_info", tuple(info.items()), 1),
        Sample("forge_device_state", (("state", journal.state),), 1),
        Sample("forge_device_ready", (), float(serving is not None)),
        Sample("forge_device_uptime_seconds", (), round(uptime_s, 3)),
        Sample("forge_device_requests_in_flight", (), live.under_way),
        Sample("forge_device_crashes_in_a_row", (), journal.crashes),
    )


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels)
    value = int(sample.value) if float(sample.value).is_integer() else sample.value
    return f"{sample.family}{{{labels}}} {value}" if labels else f"{sample.family} {value}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
