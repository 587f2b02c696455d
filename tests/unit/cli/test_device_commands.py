"""Options of `forge device run` and `forge device rollback`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.cli import main
from forge.device import commands, daemon, maintenance
from forge.device.shared.release import Release
from forge.device.state_machine.journal import FailedRelease
from forge.device.telemetry.status import DeviceStatus
from forge.errors import UsageError


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("forge")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(capture=False)


def logged(monkeypatch: pytest.MonkeyPatch, *options: str, state: Path) -> int:
    """Exit code of `forge device run`, whose agent logs two messages."""

    def run(*_arguments: object, **_options: object) -> None:
        logging.getLogger("forge.device.agent.agent").info("installing llm 1.0.0")
        logging.getLogger("forge.device.agent.agent").warning("slot a is damaged")

    monkeypatch.setattr(daemon, "run", run)
    return main(["device", "run", "--state", str(state), *options])


def test_the_log_is_text_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert logged(monkeypatch, state=tmp_path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" ", 1)[1] for line in err.splitlines()] == [
        "INFO installing llm 1.0.0",
        "WARNING slot a is damaged",
    ]


def test_the_log_is_json_where_it_is_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--log-format", "json", "--log-level", "warning")
    assert logged(monkeypatch, *options, state=tmp_path) == 0
    [line] = capsys.readouterr().err.splitlines()
    document = json.loads(line)
    assert set(document) == {"time", "level", "logger", "message"}
    assert (document["level"], document["message"]) == ("warning", "slot a is damaged")


def test_a_log_format_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert logged(monkeypatch, "--log-format", "xml", state=tmp_path) == 2
    assert "'xml' is not one of 'text', 'json'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--unhold", "--release"])
def test_a_hold_is_lifted_by_the_name_of_today_and_by_the_old_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    states: list[Path] = []

    def unhold(state: Path) -> None:
        states.append(state)
        raise UsageError("No release is held back")

    monkeypatch.setattr(maintenance, "unhold", unhold)
    assert main(["device", "rollback", option, "--state", str(tmp_path)]) == 2
    assert states == [tmp_path]


def test_the_old_name_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "rollback", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--unhold" in shown
    assert "--release" not in shown


def test_the_status_shows_the_first_line_of_a_long_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    reason = "1 of 5 prompts got a wrong answer:\nprompt  expected\nA?      B"
    bad = FailedRelease(
        release=Release(name="llm", version="1.0.2", profile="development", manifest="a" * 64),
        reason=reason,
        at="2026-11-30T04:25:11Z",
    )
    found = DeviceStatus(
        store_url="/store", name="llm", channel="stable", state="idle", slot=None,
        release=None, candidate=None, agent=None, bad=(bad,), held=None, previous=None,
        rollbacks=(bad,),
    )  # fmt: skip
    monkeypatch.setattr(commands, "status", lambda _state: found)
    assert main(["device", "status", "--state", str(tmp_path)]) == 0
    (shown,) = [line for line in capsys.readouterr().out.splitlines() if "1.0.2" in line]
    assert shown.endswith("llm 1.0.2 (development): 1 of 5 prompts got a wrong answer")
    assert main(["device", "status", "--state", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rollbacks"][0]["reason"] == reason
