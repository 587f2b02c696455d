"""Since when the store is away, what is written down of it, and that one outage is told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forge.device.shared.release import Release
from forge.device.state.settings import DeviceSettings, write_settings
from forge.device.telemetry.contact import ContactLog, Followed, StoreContact, alike, read_contact
from forge.device.telemetry.history import DeviceEvent
from forge.errors import FitError, ForgeError, StoreError, TrustError, UsageError
from tests.support.manifests import manifest

OLD, NEW, NEWER = (Release.of(manifest(one)) for one in ("1.0.0", "1.1.0", "1.2.0"))
AWAY = StoreError("The store is away")
UNFIT = FitError("No profile matches")


class Device:
    """A state folder, what is told of it, and its clock; `log` is made anew by a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[DeviceEvent] = []
        self.minute = 0
        self.set_to = datetime(2026, 11, 30, tzinfo=UTC)  # the clock, at minute 0
        self.log = self.restarted()

    def restarted(self) -> ContactLog:
        self.log = ContactLog(self.folder, self.told.append, self.now, lambda: self.minute * 60.0)
        return self.log

    def now(self) -> str:
        return f"{self.set_to + timedelta(minutes=self.minute):%Y-%m-%dT%H:%M:%SZ}"

    def kinds(self) -> list[str]:
        return [one.event for one in self.told]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def fail(device: Device, minutes: int, error: StoreError = AWAY) -> None:
    for _ in range(minutes):
        device.minute += 1
        device.log.failed(error)


def test_an_outage_is_one_failure_and_one_recovery_in_the_history(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    device.log.succeeded(OLD, OLD)
    fail(device, 80)
    device.minute += 1
    device.log.succeeded(OLD, OLD)
    device.log.succeeded(OLD, OLD)
    assert device.kinds() == ["check-failed", "check-recovered"]
    assert device.told[0].reason == "The store is away"
    said = "the store is back after 1 h 20 min in which 80 checks failed"
    assert device.told[1].reason == said
    assert caplog.messages == [said]


def test_an_outage_goes_on_over_a_restart_of_the_agent(device: Device) -> None:
    device.log.succeeded(OLD, OLD)
    fail(device, 3)
    device.restarted()
    fail(device, 2)
    contact = read_contact(device.folder)
    assert (contact.failures, contact.failing_since) == (5, "2026-11-30T00:01:00Z")
    assert contact.last_contact == "2026-11-30T00:00:00Z"
    assert contact.offline_s("2026-11-30T00:11:00Z") == 600
    assert device.kinds() == ["check-failed"]


def test_another_reason_is_told_as_well(device: Device) -> None:
    fail(device, 2)
    device.log.failed(TrustError("The metadata has expired"))
    assert [one.reason for one in device.told] == ["The store is away", "The metadata has expired"]


def test_the_time_behind_begins_when_another_release_serves_than_the_channel_points_to(
    device: Device,
) -> None:
    device.log.succeeded(OLD, OLD)
    assert device.log.contact.behind_since is None
    device.minute = 10
    device.log.succeeded(NEW, OLD)
    device.minute = 20
    device.log.succeeded(NEWER, OLD)
    fail(device, 1)
    contact = read_contact(device.folder)
    assert (contact.offered, contact.behind_since) == (NEWER, "2026-11-30T00:10:00Z")
    assert contact.last_contact == "2026-11-30T00:20:00Z"
    device.minute = 30
    device.log.serves(NEWER)
    assert read_contact(device.folder).behind_since is None


def test_a_device_that_goes_back_is_behind_since_then_and_not_since_the_offer(
    device: Device,
) -> None:
    device.log.succeeded(NEW, NEW)
    device.minute = 40
    device.log.serves(OLD)
    device.minute = 50
    device.log.succeeded(NEW, OLD)
    assert device.restarted().contact.behind_since == "2026-11-30T00:40:00Z"


@pytest.mark.parametrize(
    "changes", [{"store_url": "/other"}, {"name": "other"}, {"channel": "canary"}]
)
def test_what_is_known_of_another_channel_is_not_known_of_this_one(
    device: Device, changes: dict[str, str]
) -> None:
    settings = DeviceSettings(store_url="/store", name="llm", channel="stable")
    write_settings(device.folder, settings, b"{}")
    device.log.succeeded(NEW, OLD)
    fail(device, 2)
    assert device.restarted().contact == read_contact(device.folder)
    assert (device.log.contact.offered, device.log.contact.failures) == (NEW, 2)
    again = settings.model_copy(update={"limit_rate": 5000})
    write_settings(device.folder, again, b"{}")
    assert read_contact(device.folder).offered == NEW
    write_settings(device.folder, settings.model_copy(update=changes), b"{}")
    followed = Followed(**{"store_url": "/store", "name": "llm", "channel": "stable"} | changes)
    assert read_contact(device.folder) == StoreContact(followed=followed)
    device.restarted().succeeded(OLD, OLD)
    assert read_contact(device.folder).offered == OLD


def test_settings_that_are_lost_take_nothing_away(device: Device) -> None:
    write_settings(
        device.folder, DeviceSettings(store_url="/store", name="llm", channel="stable"), b"{}"
    )
    device.log.succeeded(NEW, OLD)
    (device.folder / "device.json").write_bytes(b"{")
    fail(device, 1)
    assert device.restarted().contact.offered == NEW


def test_nothing_is_written_while_the_same_serves(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.log.succeeded(NEW, OLD)
    monkeypatch.delattr("forge.device.telemetry.contact.write_durably")
    device.minute = 1
    device.log.serves(OLD)
    assert device.log.contact.behind_since == "2026-11-30T00:00:00Z"


@pytest.mark.parametrize("error", [UNFIT, UsageError("No profile named thor")])
def test_a_channel_without_a_profile_for_this_machine_was_read_and_offers_nothing(
    device: Device, error: ForgeError
) -> None:
    device.log.succeeded(OLD, OLD)
    device.minute = 5
    device.log.failed(error)
    device.minute = 9
    device.log.failed(error)
    contact = read_contact(device.folder)
    assert (contact.last_contact, contact.offered) == ("2026-11-30T00:09:00Z", None)
    assert (contact.failing_since, contact.offline_s("2026-11-30T09:00:00Z")) == (None, 0)
    assert (contact.failures, contact.error) == (2, str(error))
    assert device.kinds() == ["check-failed"]
    assert StoreContact().failed(AWAY, "2026-11-30T00:00:00Z").last_contact is None


def test_an_outage_ends_where_the_channel_is_read_and_has_nothing_for_this_machine(
    device: Device,
) -> None:
    fail(device, 10)
    device.minute += 1
    device.log.failed(UNFIT)
    assert device.kinds() == ["check-failed", "check-recovered", "check-failed"]
    assert "in which 10 checks failed" in device.told[1].reason
    device.log.succeeded(NEW, OLD)
    assert device.told[-1].reason == (
        "the channel has a bundle for this machine again, after 1 check failed"
    )
    device.log.failed(UNFIT)
    fail(device, 1)
    assert (device.log.contact.failures, device.log.contact.failing_since) == (
        1, "2026-11-30T00:12:00Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"failures": -1}', b"\xff" * 100_000,
     b'{"last_contact": "x"}', b'{"failing_since": "2026-11-30T00:00:00"}'],
)  # fmt: skip
def test_a_damaged_record_is_an_empty_one(device: Device, content: bytes) -> None:
    (device.folder / "contact.json").write_bytes(content)
    assert read_contact(device.folder) == StoreContact()
    assert device.restarted().contact == StoreContact()


def test_a_full_disk_ends_nothing(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forge.device.telemetry.contact.write_durably", full)
    fail(device, 3)
    assert device.log.contact.failures == 3
    assert device.kinds() == ["check-failed"]


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("no answer within 30.1 s", "no answer within 30.2 s", True),
        ("400 MiB are free", "396 MiB are free", True),
        ("request 4442587FB7D0A2F9 failed", "request 0B1C587FB7D0A2FA failed", True),
        ("expired at 2026-11-30T00:00:00Z", "expired at 2026-12-01T00:00:00Z", True),
        ("llm 1.1.0 does not fit", "llm 1.2.0 does not fit", False),
        ("the server answered 403", "the server answered 404", False),
        ("The store is away", "The metadata has expired", False),
    ],
)
def test_messages_that_differ_in_sizes_times_and_identities_are_alike(
    one: str, another: str, *, same: bool
) -> None:
    assert alike(one, another) is same


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    contact = StoreContact(failing_since="2026-11-30T00:00:00Z", failures=1)
    assert contact.offline_s("2026-11-29T00:00:00Z") == 0


@pytest.mark.parametrize("year", [1970, 2025])
def test_an_outage_lasts_as_long_as_it_does_where_the_clock_is_set_meanwhile(
    device: Device, year: int
) -> None:
    device.set_to = datetime(year, 2, 1, tzinfo=UTC)
    fail(device, 5)
    assert device.log.contact.offline_s(device.now()) == 240
    device.set_to = datetime(2026, 11, 30, tzinfo=UTC)
    fail(device, 5)
    contact = read_contact(device.folder)
    assert contact.failing_since == "2026-11-30T00:01:00Z"
    assert contact.offline_s(device.now()) == 540
    assert device.kinds() == ["check-failed"]
    device.log.succeeded(OLD, OLD)
    assert "after 9 min 00 s" in device.told[-1].reason


def test_an_outage_written_down_before_the_clock_was_set_counts_from_this_agent_on(
    device: Device,
) -> None:
    device.set_to = datetime(1970, 1, 1, tzinfo=UTC)
    fail(device, 5)
    device.set_to = datetime(2026, 11, 30, tzinfo=UTC)
    assert device.log.contact.offline_s(device.now()) == 0
    device.restarted()
    fail(device, 3)
    assert device.log.contact.offline_s(device.now()) == 120


def test_a_device_behind_since_before_its_clock_was_set_counts_from_the_next_check(
    device: Device,
) -> None:
    device.set_to = datetime(1970, 1, 1, tzinfo=UTC)
    device.log.succeeded(NEW, OLD)
    device.set_to = datetime(2026, 11, 30, tzinfo=UTC)
    device.log.succeeded(NEW, OLD)
    assert device.log.contact.behind_since == "2026-11-30T00:00:00Z"
