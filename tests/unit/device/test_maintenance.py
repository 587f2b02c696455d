"""`forge device rollback`, `history` and `verify`: what they refuse, report and repair."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forge import canonical
from forge.device import daemon, maintenance
from forge.device.maintenance import SlotHealth
from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.operator_requests import OperatorRequest, taken, unfulfilled
from forge.device.state.settings import DeviceSettings, write_settings
from forge.device.state_machine.journal import FailedRelease, Journal
from forge.device.telemetry.history import DeviceEvent, History
from forge.device.update.updater import Updater
from forge.errors import (
    ConfigurationError,
    CorruptedError,
    ForgeError,
    RolledBackError,
    StoreError,
    TrustError,
    UsageError,
)
from forge.store.download.downloader import Transfer
from forge.store.formats.tree import Tree, TreeEntry
from tests.support.manifests import manifest


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root in somebody's folder")
def test_root_asks_nothing_of_the_device_of_somebody_else(home: StateDirectory) -> None:
    held = Release.of(manifest("1.1.0"))
    why = FailedRelease(release=held, reason="slow", at="2026-11-24T00:00:00Z")
    home.write_journal(Journal(held=why))
    os.chown(home.path, 65532, 65532)
    with pytest.raises(UsageError, match="belongs to"):
        maintenance.unhold(home.path)
    assert not (home.path / "asked.json").exists()


OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
AT = "2026-11-28T00:00:00Z"
WENT = Journal(active="b", slots={"a": OLD, "b": NEW}, previous=OLD)
BACK = Journal(active="a", slots={"a": OLD, "b": NEW})


@pytest.fixture
def device(home: StateDirectory) -> StateDirectory:
    """A device that is set up."""
    settings = DeviceSettings(
        store_url=str(home.path / "gone"), name="llm", channel="stable", schema_version=2
    )
    write_settings(home.path, settings, b"{}")
    return home


def use_agent(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[StateDirectory, OperatorRequest], None]
) -> list[OperatorRequest]:
    """Let this be done where the agent would carry out a request; the requests, in their order."""
    asked: list[OperatorRequest] = []

    def run(state: Path, *, once: bool) -> None:
        assert once
        with taken(StateDirectory(state)) as request:
            assert request is not None
            asked.append(request)
            work(StateDirectory(state), request)

    monkeypatch.setattr(daemon, "run", run)
    return asked


def test_a_rollback_is_from_what_serves_with_its_reason(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write_journal(WENT)
    asked = use_agent(monkeypatch, lambda home, _: home.write_journal(BACK))
    shown = maintenance.rollback(device.path, "too slow")
    assert asked == [OperatorRequest(what="rollback", leaves=NEW.manifest, reason="too slow")]
    assert (shown.slot, shown.release) == ("a", OLD)


def test_a_rollback_that_did_not_happen_is_an_error_with_the_reason(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = FailedRelease(release=NEW, reason="an earlier one", at=AT)
    device.write_journal(WENT.model_copy(update={"rollbacks": (earlier,)}))
    use_agent(monkeypatch, lambda _home, _request: None)
    with pytest.raises(RolledBackError, match=r"did not go back to llm 1\.0\.0") as caught:
        maintenance.rollback(device.path, "too slow")
    assert (caught.value.why, caught.value.exit_code) == ("", 10)  # not that of another time
    failed = FailedRelease(release=OLD, reason="a wrong answer", at=AT)
    kept = WENT.model_copy(update={"rollbacks": (earlier, failed)})
    use_agent(monkeypatch, lambda home, _: home.write_journal(kept))
    with pytest.raises(RolledBackError) as caught:
        maintenance.rollback(device.path, "too slow")
    assert caught.value.why == "a wrong answer"


def test_there_is_nothing_to_go_back_to_before_the_second_release(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write_journal(BACK)
    asked = use_agent(monkeypatch, lambda _home, _request: None)
    with pytest.raises(UsageError, match="nothing to go back to") as caught:
        maintenance.rollback(device.path, "too slow")
    assert caught.value.exit_code == 2
    assert asked == []
    assert not unfulfilled(device)


def test_a_hold_is_lifted_only_where_there_is_one(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = use_agent(monkeypatch, lambda home, _: home.write_journal(BACK))
    with pytest.raises(UsageError, match="No release is held back"):
        maintenance.unhold(device.path)
    assert asked == []
    held = FailedRelease(release=NEW, reason="by hand", at=AT)
    device.write_journal(BACK.model_copy(update={"held": held}))
    assert maintenance.unhold(device.path).held is None
    assert asked == [OperatorRequest(what="release")]


def test_a_running_agent_is_waited_for(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write_journal(WENT)
    polls: list[str] = []

    def sleep(_seconds: float) -> None:
        """The agent takes the request, goes back, and ends the request, a poll each."""
        polls.append(device.journal().state)
        if len(polls) == 1:
            (device.path / "asked.json").rename(device.path / ".tmp-asked")
        elif len(polls) == 2:
            (device.path / ".tmp-asked").unlink()
            device.write_journal(BACK.model_copy(update={"state": "committed"}))
        else:
            device.write_journal(BACK)

    monkeypatch.setattr(maintenance, "time", Clock(sleep))
    with device.locked():
        shown = maintenance.rollback(device.path, "too slow")
    assert (shown.slot, polls) == ("a", ["idle", "idle", "committed"])


def test_an_agent_that_does_not_answer_is_waited_for_until_the_time_is_over(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write_journal(WENT)
    clock = Clock(lambda _seconds: None)
    monkeypatch.setattr(maintenance, "time", clock)
    with device.locked(), pytest.raises(StoreError, match="within 5 s") as caught:
        maintenance.rollback(device.path, "too slow", timeout_s=5)
    assert caught.value.exit_code == 9
    assert 5 <= clock.now <= 6
    assert unfulfilled(device)  # it may still be carried out


def test_an_agent_that_ends_meanwhile_is_not_waited_for(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write_journal(WENT)
    holders: list[int | None] = [1, 1, None]
    monkeypatch.setattr(StateDirectory, "holder", lambda _home: holders.pop(0))
    monkeypatch.setattr(maintenance, "time", Clock(lambda _seconds: None))
    with pytest.raises(StoreError, match="agent ended before") as caught:
        maintenance.rollback(device.path, "too slow")
    assert "started again" in caught.value.hint


@dataclass
class Clock:
    """Time that passes only by sleeping."""

    then: Callable[[float], None]
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.then(seconds)


def test_history_is_what_happened_the_oldest_first(device: StateDirectory) -> None:
    assert maintenance.history(device.path) == []
    first, second = (DeviceEvent(at=AT, event=kind) for kind in ("started", "crashed"))
    for one in (first, second):
        History(device.path).append(one)
    assert maintenance.history(device.path) == [first, second]


def test_history_of_a_folder_that_is_not_a_device_is_refused(home: StateDirectory) -> None:
    with pytest.raises(ConfigurationError, match="is not set up"):
        maintenance.history(home.path)


def test_history_that_cannot_be_read_is_a_clear_error(device: StateDirectory) -> None:
    (device.path / "history.jsonl").mkdir()
    with pytest.raises(StoreError, match="cannot be read") as caught:
        maintenance.history(device.path)
    assert caught.value.why


def fill(home: StateDirectory, slot: SlotName, version: str) -> Release:
    """A whole bundle of one file."""
    data = version.encode()
    home.slots.set_aside(slot)
    home.slots.tree(slot).mkdir()
    (home.slots.tree(slot) / "weights.bin").write_bytes(data)
    digest = canonical.sha256(data)
    tree = Tree(entries=(TreeEntry(path="weights.bin", mode=0o644, size=len(data), sha256=digest),))
    sealed = manifest(version).model_copy(update={"tree": tree.reference()})
    home.slots.mark_complete(slot, sealed, tree.encode())
    return Release.of(sealed)


def test_whole_slots_are_reported_as_they_are(device: StateDirectory) -> None:
    held = {"a": fill(device, "a", "1.0.0"), "b": fill(device, "b", "1.1.0")}
    slots: Any = held
    device.write_journal(Journal(active="a", slots=slots))
    assert maintenance.verify(device.path, repair=False) == (
        SlotHealth(slot="a", release=held["a"], damages=()),
        SlotHealth(slot="b", release=held["b"], damages=()),
    )


def test_damage_is_an_error_that_names_slot_and_file_and_the_next_command(
    device: StateDirectory,
) -> None:
    slots: Any = {"a": fill(device, "a", "1.0.0"), "b": fill(device, "b", "1.1.0")}
    device.write_journal(Journal(active="a", slots=slots))
    (device.slots.tree("b") / "weights.bin").write_bytes(b"1.1.1")
    with pytest.raises(CorruptedError) as caught:
        maintenance.verify(device.path, repair=False)
    assert caught.value.exit_code == 9
    assert caught.value.why.startswith("slot b: weights.bin")
    assert f"--repair --state {device.path}" in caught.value.hint


def test_a_slot_that_is_being_filled_is_not_damage(device: StateDirectory) -> None:
    slots: Any = {"a": fill(device, "a", "1.0.0"), "b": OLD}
    filling = Journal(state="fetching", active="a", target="b", candidate=NEW, slots=slots)
    device.write_journal(filling)
    assert [one.slot for one in maintenance.verify(device.path, repair=False)] == ["a"]
    device.write_journal(filling.model_copy(update={"state": "staged"}))
    with pytest.raises(CorruptedError):
        maintenance.verify(device.path, repair=False)


def test_repair_fetches_the_damaged_slot_alone_and_keeps_an_event(
    device: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots: Any = {"a": fill(device, "a", "1.0.0"), "b": fill(device, "b", "1.1.0")}
    device.write_journal(Journal(active="a", slots=slots))
    (device.slots.tree("b") / "weights.bin").unlink()
    repaired: list[tuple[SlotName, Release]] = []

    def repair(_updater: Updater, slot: SlotName, release: Release) -> Transfer:
        assert device.holder() == os.getpid()  # no agent can start meanwhile
        repaired.append((slot, release))
        return Transfer(fetched_bytes=5, reused_bytes=0, requests=1)

    monkeypatch.setattr(Updater, "repair", repair)
    first, second = maintenance.verify(device.path, repair=True)
    assert repaired == [("b", slots["b"])]
    assert (first.repaired, second.repaired, len(second.damages)) == (False, True, 1)
    [event] = maintenance.history(device.path)
    assert (event.event, event.slot, event.fetched_bytes) == ("repaired", "b", 5)


def test_repair_of_a_device_whose_store_is_gone_is_an_error(device: StateDirectory) -> None:
    slots: Any = {"a": fill(device, "a", "1.0.0")}
    device.write_journal(Journal(active="a", slots=slots))
    (device.slots.tree("a") / "weights.bin").unlink()
    with pytest.raises(ForgeError) as caught:
        maintenance.verify(device.path, repair=True)
    assert isinstance(caught.value, StoreError | TrustError)
    assert device.holder() is None
