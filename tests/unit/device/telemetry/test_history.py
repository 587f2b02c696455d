"""The history: what is told, kept, bounded, and read again after a power cut."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

from forge.device.shared.release import Release
from forge.device.state_machine.events import (
    Crashed,
    Failed,
    Fetched,
    GoBackAsked,
    HoldLifted,
    MachineEvent,
    Prepared,
    Probed,
    Ready,
    Started,
    Switched,
    UpdateFound,
    WentBack,
)
from forge.device.state_machine.journal import Journal
from forge.device.state_machine.transitions import next_state
from forge.device.telemetry.history import (
    DetectionLog,
    DeviceEvent,
    EventFile,
    FitLog,
    History,
    between,
    stream,
)

AT = "2026-11-24T00:00:00Z"


def release(version: str) -> Release:
    return Release(name="llm", version=version, profile="development", manifest=f"{version:0>64}")


def told(current: Journal, *events: MachineEvent) -> tuple[Journal, list[str]]:
    lines = []
    for event in events:
        after, _ = next_state(current, event)
        for one in between(current, event, after, AT):
            version = one.release.version if one.release else "-"
            lines.append(" ".join(filter(None, (one.event, version, one.slot, one.reason))))
        current = after
    return current, lines


INSTALL = (Fetched(), Prepared(), Ready(), Probed(), Switched())


def test_a_device_s_life_reads_as_it_was() -> None:
    current, lines = told(Journal(), Started(AT), UpdateFound(release("1")), *INSTALL)
    assert lines == ["started -", "installing 1 a", "fetched 1 a", "committed 1 a"]
    current, lines = told(current, UpdateFound(release("2")), *INSTALL[:3])
    assert lines == ["installing 2 b", "fetched 2 b"]
    current, lines = told(current, Failed("answered Rome", AT, release_fault=True), WentBack())
    assert lines == ["not-kept 2 b answered Rome"]
    current, lines = told(
        current, UpdateFound(release("3")), Failed("no network", AT, release_fault=False)
    )
    assert lines == ["installing 3 b", "failed 3 b no network"]
    current, lines = told(current, UpdateFound(release("3")), *INSTALL)
    assert lines[-1] == "committed 3 b"
    current, lines = told(current, GoBackAsked("too slow", AT), *INSTALL[2:])
    assert lines == ["going-back 1 a too slow", "went-back 1 a"]
    current, lines = told(current, HoldLifted(), UpdateFound(release("3")), *INSTALL)
    assert lines == ["hold-lifted 3", "installing 3 b", "fetched 3 b", "committed 3 b"]
    crash = Crashed("killed", AT, 1.0, release_fault=True)
    current, lines = told(current, crash, crash, crash, *INSTALL[2:])
    assert lines == [*["crashed 3 b killed"] * 3, "going-back 1 a killed", "went-back 1 a"]


def test_an_activation_that_is_interrupted_is_told_at_the_start() -> None:
    current, _ = told(Journal(), UpdateFound(release("1")), *INSTALL)
    current, _ = told(current, UpdateFound(release("2")), *INSTALL[:2])
    power = Started(AT, "the machine lost power")
    goes_on = "interrupted 2 b it is tried again at once"
    interrupted = ["started 1 a the machine lost power", goes_on]
    current, lines = told(current, power, power)
    assert lines == interrupted * 2
    current, lines = told(current, power)
    assert lines[0] == interrupted[0]
    assert lines[1].startswith("not-kept 2 b its activation was interrupted 3 times (round 1)")
    _, lines = told(current, WentBack(), HoldLifted())
    assert lines == ["hold-lifted 2"]


def test_a_preparation_that_was_interrupted_too_often_has_failed() -> None:
    current, _ = told(Journal(), UpdateFound(release("1")), *INSTALL)
    current, _ = told(current, UpdateFound(release("2")), *INSTALL[:1])
    _, lines = told(current, *[Started(AT)] * 3)
    assert lines[:4] == ["started 1 a", "interrupted 2 b it is tried again at once"] * 2
    assert lines[5].startswith("failed 2 b its activation was interrupted 3 times (round 1)")


def test_history_comes_back_as_written(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.read() == []
    entries = [
        DeviceEvent(at=AT, event="fetched", release=release("1"), slot="a", fetched_bytes=7),
        DeviceEvent(at=AT, event="not-kept", release=release("1"), reason="answered\nRome"),
    ]
    for entry in entries:
        history.append(entry)
    assert history.read() == entries


def test_a_line_that_a_power_cut_tore_costs_only_itself(tmp_path: Path) -> None:
    history = History(tmp_path)
    for kind in ("started", "installing"):
        history.append(DeviceEvent(at=AT, event=kind))
    path = tmp_path / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    history.append(DeviceEvent(at=AT, event="committed"))
    assert [one.event for one in history.read()] == ["started", "committed"]


def test_history_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    history = History(tmp_path)
    for number in range(700):
        history.append(DeviceEvent(at=AT, event="not-kept", reason=f"{number} {'x' * 2000}"))
    assert (tmp_path / "history.jsonl").stat().st_size < 600_000
    kept = [int(one.reason.split()[0]) for one in history.read()]
    assert kept == list(range(kept[0], 700))
    assert len(kept) >= 200


def test_a_full_event_file_is_kept_once_under_another_name_and_no_event_is_lost(
    tmp_path: Path,
) -> None:
    path, sizes = tmp_path / "events.jsonl", []
    with contextlib.closing(EventFile(path, max_bytes=1000)) as file:
        for number in range(30):
            file.write(DeviceEvent(at=AT, event="not-kept", reason=f"{number} {'x' * 200}"))
            sizes.append(path.stat().st_size)
    assert max(sizes) <= 1000
    assert {one.name for one in tmp_path.iterdir()} == {"events.jsonl", "events.jsonl.1"}
    lines = (tmp_path / "events.jsonl.1").read_bytes() + path.read_bytes()
    kept = [int(json.loads(line)["reason"].split()[0]) for line in lines.splitlines()]
    assert kept == list(range(kept[0], 30))
    assert len(kept) >= 4


def test_an_event_file_of_an_earlier_run_is_gone_on_with(tmp_path: Path) -> None:
    for _ in range(2):
        with contextlib.closing(EventFile(tmp_path / "events.jsonl")) as file:
            file.write(DeviceEvent(at=AT, event="started"))
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 2


def test_the_stream_has_one_json_document_a_line() -> None:
    file = io.BytesIO()
    tell = stream(file)
    tell(DeviceEvent(at=AT, event="committed", release=release("1"), slot="a"))
    tell(DeviceEvent(at=AT, event="crashed", reason="one\ntwo"))
    first, second = (json.loads(line) for line in file.getvalue().splitlines())
    assert (first["event"], first["release"]["version"], first["slot"]) == ("committed", "1", "a")
    assert second == {"at": AT, "event": "crashed", "reason": "one\ntwo"}


def detections(folder: Path) -> list[str]:
    return [one.reason for one in History(folder).read() if one.event == "detected"]


def test_each_new_decision_about_the_profile_is_logged_and_kept_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    log = DetectionLog(tmp_path, History(tmp_path).append, lambda: AT)
    for decision in ("profile a: x", "profile a: x", "not known now", "profile a: x"):
        log.note(decision)
    assert detections(tmp_path) == ["profile a: x", "not known now", "profile a: x"]
    assert caplog.messages == ["profile a: x", "not known now", "profile a: x"]


def test_an_agent_that_starts_each_minute_does_not_fill_the_history(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for decision in ("profile a: x", "profile a: x", "profile b: y"):
        DetectionLog(tmp_path, History(tmp_path).append, lambda: AT).note(decision)
    assert detections(tmp_path) == ["profile a: x", "profile b: y"]
    assert len(caplog.messages) == 3


def test_a_history_that_cannot_be_read_is_no_reason_to_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").mkdir()
    told: list[DeviceEvent] = []
    DetectionLog(tmp_path, told.append, lambda: AT).note("profile a: x")
    assert told == [DeviceEvent(at=AT, event="detected", reason="profile a: x")]


def test_what_no_longer_fits_is_added_once_also_by_the_next_agent(tmp_path: Path) -> None:
    history, one = History(tmp_path), release("1")
    for _ in range(2):
        log = FitLog(tmp_path, history.append, lambda: AT)
        log.note(one, "NVIDIA driver 590 → 580")
        log.note(one, "NVIDIA driver 590 → 580")
        assert log.unfit == "NVIDIA driver 590 → 580"
    told = [(entry.event, entry.release, entry.reason) for entry in history.read()]
    assert told == [("no-longer-fits", one, "NVIDIA driver 590 → 580")]
    for _ in range(2):
        log = FitLog(tmp_path, history.append, lambda: AT)
        log.note(one, "")
        assert log.unfit == ""
    assert [entry.event for entry in history.read()] == ["no-longer-fits", "fits-again"]


def test_a_device_whose_release_fits_says_nothing(tmp_path: Path) -> None:
    history = History(tmp_path)
    FitLog(tmp_path, history.append, lambda: AT).note(release("1"), "")
    assert history.read() == []
