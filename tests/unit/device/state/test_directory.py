from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state_machine.journal import Journal
from forge.errors import ConfigurationError, StoreError, UsageError
from tests.support.manifests import manifest

HOLD = """
import sys, time
from pathlib import Path
from forge.device.state.directory import StateDirectory
with StateDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


def test_journal_comes_back_as_written(home: StateDirectory) -> None:
    written = Journal(active="b", slots={"b": Release.of(manifest("1.0.0"))})
    home.write_journal(written)
    assert home.journal() == written


def test_a_new_state_folder_has_an_empty_journal(home: StateDirectory) -> None:
    assert home.journal() == Journal()


def test_a_folder_of_an_earlier_agent_has_no_verdict_that_only_restarts_led_to(
    home: StateDirectory,
) -> None:
    """As that agent wrote it, in the middle of an activation."""
    old, new = (Release.of(manifest(version)) for version in ("1.0.0", "1.1.0"))
    reason = "the agent exited 3 times while it activated this bundle"
    verdict = {"release": new.model_dump(), "reason": reason, "at": "2026-11-24T00:00:00Z"}
    document = {
        "schema_version": 1, "state": "activating", "active": "a", "target": "b",
        "candidate": new.model_dump(), "slots": {"a": old.model_dump(), "b": new.model_dump()},
        "attempts": 2, "blue_green": False, "previous": None, "crashes": 0, "bad": [verdict],
        "held": None, "rollbacks": [verdict],
    }  # fmt: skip
    (home.path / "state.json").write_text(json.dumps(document))
    journal = home.journal()
    assert (journal.state, journal.attempts, journal.candidate) == ("activating", 2, new)
    assert (journal.bad, len(journal.rollbacks), journal.interrupted) == ((), 1, None)
    home.write_journal(journal)
    assert json.loads((home.path / "state.json").read_text()) == {**document, "bad": []}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"state": "probing"}', b'{"schema_version": 9}', b"\xff" * 99]
)
def test_a_damaged_journal_is_made_again_from_current(home: StateDirectory, damage: bytes) -> None:
    home.slots.set_aside("b")
    home.slots.mark_complete("b", manifest("1.0.0"))
    home.switch("b")
    (home.path / "state.json").write_bytes(damage)
    recovered = home.journal()
    assert (recovered.state, recovered.active) == ("idle", "b")
    assert recovered.active_release == Release.of(manifest("1.0.0"))


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES])
def test_a_journal_that_cannot_be_read_is_an_error_and_not_a_new_one(
    home: StateDirectory, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    home.write_journal(Journal(active="b", slots={"b": Release.of(manifest("1.0.0"))}))
    real = Path.open

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "state.json":
            raise OSError(error, os.strerror(error))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    kind = StoreError if error == errno.EIO else ConfigurationError
    with pytest.raises(kind, match="cannot be read") as caught:
        home.journal()
    assert "nothing was changed" in caught.value.hint


def test_current_never_names_a_slot_that_is_not_sealed_after_recovery(home: StateDirectory) -> None:
    home.slots.set_aside("a")
    home.switch("a")
    assert home.journal() == Journal()


def test_switch_replaces_the_link_and_leaves_nothing_beside_it(home: StateDirectory) -> None:
    home.switch("a")
    home.switch("b")
    assert home.current() == "b"
    assert (home.path / "current").readlink() == Path("slots/b")
    assert not list(home.path.glob(".current*"))


@pytest.mark.parametrize("target", ["slots/c", "/etc", ""])
def test_current_that_points_elsewhere_is_no_slot(home: StateDirectory, target: str) -> None:
    if target:
        (home.path / "current").symlink_to(target)
    assert home.current() is None


def test_a_second_agent_is_refused_and_told_who_the_first_is(home: StateDirectory) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert home.holder() == other.pid
        with pytest.raises(UsageError, match=rf"process {other.pid}") as caught, home.locked():
            pass
        assert caught.value.exit_code == 2
    finally:
        other.kill()
        other.communicate()
    assert home.holder() is None
    with home.locked():
        assert home.holder() == os.getpid()


def test_a_state_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    home = StateDirectory(tmp_path / "file" / "state")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        home.write_journal(Journal())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root in somebody's folder")
def test_root_leaves_nothing_in_a_folder_of_somebody_else(home: StateDirectory) -> None:
    with home.locked():
        pass  # root in its own folder
    os.chown(home.path, 65532, 65532)
    (home.path / "lock").unlink()
    with pytest.raises(UsageError, match="belongs to") as caught, home.locked():
        pass
    assert "sudo -u '#65532' forge device …" in caught.value.hint
    assert caught.value.exit_code == 2
    assert not (home.path / "lock").exists()
