"""Metrics of the contact with the store, of download and start, and of the slots' files."""

from __future__ import annotations

from datetime import datetime

from forge.device.state.weights_record import WeightsRecord
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.fetch_progress import FetchProgress
from forge.device.telemetry.metrics import Sample
from forge.device.telemetry.status import ServerStarting

__all__ = ["contact_samples", "progress_samples", "weights_samples"]


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


def weights_samples(record: WeightsRecord) -> tuple[Sample, ...]:
    """Return what the background reading of the slots' files has found."""
    found = []
    for slot, reading in sorted(record.slots.items()):
        labels = (("slot", str(slot)),)
        damaged = len(reading.damaged)
        found.append(Sample("forge_device_weights_damaged_files", labels, damaged))
        if reading.finished:
            at = datetime.fromisoformat(reading.finished).timestamp()
            found.append(Sample("forge_device_weights_verified_timestamp_seconds", labels, at))
        if reading.began:
            found.append(Sample("forge_device_weights_read_bytes", labels, reading.read_bytes))
    return tuple(found)
