"""Metrics of a device's contact with its store, and of what is under way: download and start."""

from __future__ import annotations

from datetime import datetime

from forge.device.state_machine.journal import Journal
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.fetch_progress import FetchProgress
from forge.device.telemetry.metrics import Sample
from forge.device.telemetry.status import ServerStarting

__all__ = ["contact_samples", "progress_samples"]


def contact_samples(contact: StoreContact, journal: Journal, now: str) -> tuple[Sample, ...]:
    """Return since when the store is away, and whether what it last offered serves.

    Args:
        contact: with the store.
        journal: of the device.
        now: RFC 3339.
    """
    found = [
        Sample("forge_device_channel_checks_failed_in_a_row", (), contact.failures),
        Sample("forge_device_offline_seconds", (), contact.offline_s(now)),
    ]
    if contact.last_contact:
        at = datetime.fromisoformat(contact.last_contact).timestamp()
        found.append(Sample("forge_device_last_contact_timestamp_seconds", (), at))
    if contact.offered:
        same = contact.offered == journal.active_release
        found.append(Sample("forge_device_up_to_date", (), float(same)))
    return tuple(found)


def progress_samples(
    fetch: FetchProgress | None, start: ServerStarting | None
) -> tuple[Sample, ...]:
    """Return how far the download and the start under way are; nothing where there are none."""
    found = []
    if fetch:
        found += [
            Sample("forge_device_fetch_bytes", (), fetch.done_bytes),
            Sample("forge_device_fetch_size_bytes", (), fetch.total_bytes),
            Sample("forge_device_fetch_bytes_per_second", (), fetch.bytes_per_s),
        ]
        if fetch.left_s is not None:
            found.append(Sample("forge_device_fetch_left_seconds", (), fetch.left_s))
    if start:
        labels = (("slot", str(start.slot)),)
        found.append(Sample("forge_device_server_starting_seconds", labels, start.seconds))
    return tuple(found)
