"""What Prometheus sees of the store, of a download, of a start, and of the slots' files."""

from __future__ import annotations

from forge.device.shared.release import Release
from forge.device.state.weights_record import SlotReading, WeightsRecord
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.contact_samples import (
    contact_samples,
    progress_samples,
    weights_samples,
)
from forge.device.telemetry.fetch_progress import FetchProgress
from forge.device.telemetry.metrics import SAMPLED, Sample
from forge.device.telemetry.status import ServerStarting
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))


def values(samples: tuple[Sample, ...]) -> dict[str, float]:
    assert {one.family for one in samples} <= set(SAMPLED)
    for one in samples:
        assert tuple(name for name, _ in one.labels) == SAMPLED[one.family].labels
    return {one.family.removeprefix("forge_device_"): one.value for one in samples}


def test_an_outage_and_a_device_behind_are_numbers() -> None:
    contact = StoreContact(
        last_contact="1970-01-01T00:01:00Z", offered=NEW, failing_since="1970-01-01T00:02:00Z",
        failures=7,
    )  # fmt: skip
    journal = Journal(active="a", slots={"a": OLD})
    assert values(contact_samples(contact, journal, "1970-01-01T01:02:00Z")) == {
        "channel_checks_failed_in_a_row": 7,
        "offline_seconds": 3600,
        "last_contact_timestamp_seconds": 60,
        "up_to_date": 0,
    }


def test_a_device_that_never_read_its_channel_claims_nothing() -> None:
    found = values(contact_samples(StoreContact(), Journal(), "1970-01-01T00:00:00Z"))
    assert found == {"channel_checks_failed_in_a_row": 0, "offline_seconds": 0}


def test_a_download_and_a_start_are_there_only_while_they_last() -> None:
    fetch = FetchProgress(release=NEW, done_bytes=3, total_bytes=10, bytes_per_s=2.0, left_s=None)
    start = ServerStarting(slot="b", seconds=4.5, limit_s=60)
    assert progress_samples(None, None) == ()
    assert values(progress_samples(fetch, start)) == {
        "fetch_bytes": 3,
        "fetch_size_bytes": 10,
        "fetch_bytes_per_second": 2.0,
        "server_starting_seconds": 4.5,
    }
    known = fetch.model_copy(update={"left_s": 3.5})
    assert values(progress_samples(known, None))["fetch_left_seconds"] == 3.5


def test_damage_and_the_last_reading_of_each_slot_are_numbers() -> None:
    whole = SlotReading(release=OLD, finished="1970-01-01T00:01:00Z")
    reads = SlotReading(release=NEW, began="1970-01-01T00:00:00Z", read_bytes=5)
    ill = SlotReading(release=NEW, damaged=("weights.bin",))
    assert values(weights_samples(WeightsRecord(slots={"a": whole}))) == {
        "weights_damaged_files": 0,
        "weights_verified_timestamp_seconds": 60,
    }
    assert values(weights_samples(WeightsRecord(slots={"b": reads})))["weights_read_bytes"] == 5
    assert values(weights_samples(WeightsRecord(slots={"b": ill})))["weights_damaged_files"] == 1
