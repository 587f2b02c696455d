"""`forge device logs`, and the rows of `forge device status` about contact and activity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.cli import main
from forge.device import commands
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import SlotReading
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.fetch_progress import FetchProgress
from forge.device.telemetry.freshness import Freshness
from forge.device.telemetry.status import (
    AgentActivity,
    AgentReport,
    DeviceStatus,
    ServerStarting,
)
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
AT = "2026-11-30T04:25:11Z"


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    (made.logs / "agent.log.1").write_text("one\ntwo\n")
    (made.logs / "agent.log").write_text("three\nfour \x1b[31mred\n")
    (made.logs / "slot-b").mkdir()
    (made.logs / "slot-b" / "triton.log").write_text("E1124 model\n::stop-commands::x\n")
    return made


def shown(home: StateDirectory, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["device", "logs", "--state", str(home.path), *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_last_lines_are_shown_without_control_characters(
    home: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(home, capsys) == ["one", "two", "three", "four \N{REPLACEMENT CHARACTER}[31mred"]
    assert shown(home, capsys, "--lines", "3")[0] == "two"


def test_the_log_of_the_server_is_that_of_the_slot_that_serves(
    home: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", "logs", "--state", str(home.path), "--server"]) == 2
    assert "No slot serves" in capsys.readouterr().err
    home.write_journal(Journal(active="b", slots={"b": NEW}))
    server = shown(home, capsys, "--server")
    assert server == ["E1124 model", ": :stop-commands::x"]  # no command for GitHub's runner
    assert shown(home, capsys, "--slot", "b") == server
    assert shown(home, capsys, "--slot", "a") == []


def test_json_has_the_file_and_its_lines(
    home: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads("\n".join(shown(home, capsys, "--json", "-n", "1")))
    assert document == {"file": str(home.logs / "agent.log"), "lines": ["four \x1b[31mred"]}


@pytest.mark.parametrize(
    "options", [("--json", "--follow"), ("--server", "--compile"), ("--slot", "a", "--compile")]
)
def test_options_that_exclude_each_other_are_refused(
    home: StateDirectory, options: tuple[str, ...]
) -> None:
    assert main(["device", "logs", "--state", str(home.path), *options]) == 2


def test_a_log_that_is_not_there_is_said_and_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", "logs", "--state", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "No log yet" in err


def test_follow_prints_new_lines_until_it_is_interrupted(
    home: StateDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []

    def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 2:
            raise KeyboardInterrupt
        with (home.logs / "agent.log").open("a") as file:
            file.write("five\n")

    monkeypatch.setattr("time.sleep", sleep)
    code = main(["device", "logs", "--state", str(home.path), "--follow", "-n", "1"])
    out, err = capsys.readouterr()
    assert out.splitlines() == ["four \N{REPLACEMENT CHARACTER}[31mred", "five"]
    assert (code, err) == (0, "")


@pytest.mark.parametrize("readings", [0, 1])
def test_a_log_that_cannot_be_read_says_who_can(
    home: StateDirectory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    readings: int,
) -> None:
    """At once, or while it is followed."""

    def denied(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    def sleep(_seconds: float) -> None:
        monkeypatch.setattr(Path, "open", denied)

    if not readings:
        sleep(0)
    monkeypatch.setattr("time.sleep", sleep)
    assert main(["device", "logs", "--state", str(home.path), "--follow"]) == 3
    assert "sudo -u forge forge device logs" in capsys.readouterr().err


def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **changes: object
) -> str:
    """The words of `forge device status`."""
    plain = DeviceStatus(
        store_url="/store", name="llm", channel="stable", state="idle", slot="a", release=OLD,
        candidate=None, agent=None, bad=(), held=None, previous=None, rollbacks=(),
    )  # fmt: skip
    monkeypatch.setattr(commands, "status", lambda _state: plain.model_copy(update=changes))
    assert main(["device", "status"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_status_says_how_long_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contact = StoreContact(last_contact=AT, failing_since=AT, failures=80)
    text = told(monkeypatch, capsys, contact=contact, offline_s=4800.0)
    assert f"last contact {AT}" in text
    assert f"offline for 1 h 20 min, since {AT}, 80 failed checks" in text


def test_the_status_says_what_the_agent_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch = FetchProgress(
        release=NEW, done_bytes=12_300_000, total_bytes=98_400_000, bytes_per_s=5e6, left_s=17
    )
    activity = AgentActivity(
        refuses="slot a is being started", fetch=fetch,
        start=ServerStarting(slot="a", seconds=12.3, limit_s=600),
    )  # fmt: skip
    agent = AgentReport(
        pid=7, url="http://127.0.0.1:8080", started=AT, hardware=HardwareWatch().current(),
        look=None, activity=activity,
    )  # fmt: skip
    behind = Freshness(state="behind", offered=NEW, behind_s=7200)
    text = told(monkeypatch, capsys, agent=agent, uptime_s=11_100.0, freshness=behind)
    for said in (
        "agent pid 7, up 3 h 05 min, http://127.0.0.1:8080",
        f"fetching {NEW}: 12.3 MB of 98.4 MB, 5.0 MB/s, 17 s left",
        "starting Triton of slot a, for 12 s, at most 10 min 00 s",
        "no answers slot a is being started",
        "update behind for 2 h 00 min: stable points to 1.1.0",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (SlotReading(release=OLD, finished=AT), f"files of a intact at {AT}"),
        (
            SlotReading(release=OLD, began=AT, read_bytes=5_000_000, total_bytes=10_000_000),
            f"files of a 5.0 MB of 10.0 MB read since {AT}",
        ),
        (SlotReading(release=OLD, damaged=("w.bin",)), "files of a damaged: w.bin; repaired as"),
    ],
)
def test_the_status_says_what_the_files_of_a_slot_are(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reading: SlotReading,
    said: str,
) -> None:
    assert said in told(monkeypatch, capsys, weights={"a": reading})
