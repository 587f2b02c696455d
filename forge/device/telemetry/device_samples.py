"""Metrics of the device: what serves, the state of the agent, its events."""

from __future__ import annotations

from typing import get_args

from forge.device.shared.upstream import Upstream
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.history import DeviceEvent, EventKind
from forge.device.telemetry.metrics import Metrics, Sample

__all__ = ["count_event", "declare_events", "device_samples"]


def declare_events(metrics: Metrics) -> None:
    """Begin the counter of each event at 0: Prometheus sees no increase of a new series."""
    for event in get_args(EventKind):
        metrics.add("forge_device_events_total", 0, event=event)


def count_event(metrics: Metrics, event: DeviceEvent) -> None:
    """Count an event of the device and the bytes that it moved."""
    metrics.add("forge_device_events_total", event=event.event)
    metrics.add("forge_device_fetched_bytes_total", event.fetched_bytes)
    metrics.add("forge_device_reused_bytes_total", event.reused_bytes)


def device_samples(journal: Journal, upstream: Upstream, uptime_s: float) -> tuple[Sample, ...]:
    """Return what the device is now, as samples."""
    serving, _ = upstream.get()
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
        Sample("forge_device_num_requests_running", (), upstream.under_way),
        Sample("forge_device_crashes_in_a_row", (), journal.crashes),
    )
