"""Operators' requests in the state directory: left, taken, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state.operator_requests import (
    OperatorRequest,
    pending,
    submit,
    taken,
    unfulfilled,
)
from forge.device.state_machine.journal import Journal
from tests.support.manifests import manifest

OLD, NEW, NEWER = (Release.of(manifest(version)) for version in ("1.0.0", "1.1.0", "1.2.0"))


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    """The state folder of a device that went from OLD in slot a to NEW in slot b."""
    made = StateDirectory(tmp_path / "state")
    made.clean()
    made.write_journal(Journal(active="b", previous=OLD, slots={"a": OLD, "b": NEW}))
    return made


def test_a_request_that_a_kill_cut_short_is_not_waited_for_after_a_restart(
    home: StateDirectory,
) -> None:
    (home.path / ".tmp-asked").write_text("{}")
    home.clean()
    assert not unfulfilled(home)


def test_a_request_comes_back_once_and_a_later_one_replaces_it(home: StateDirectory) -> None:
    submit(home, OperatorRequest(what="release"))
    later = OperatorRequest(what="rollback", leaves=NEW.manifest, reason="too slow")
    submit(home, later)
    assert pending(home)
    with taken(home) as request:
        assert request == later
        assert (pending(home), unfulfilled(home)) == (False, True)
    assert not unfulfilled(home)
    with taken(home) as request:
        assert request is None


def test_a_request_is_gone_however_its_handling_ends(home: StateDirectory) -> None:
    """One that ended the agent would end it again at each start."""
    submit(home, OperatorRequest(what="rollback"))
    with pytest.raises(KeyError), taken(home):
        raise KeyError
    assert not unfulfilled(home)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "reboot"}', '{"what": 7}'])
def test_a_request_that_is_not_valid_is_dropped(home: StateDirectory, content: str) -> None:
    (home.path / "asked.json").write_text(content)
    with taken(home) as request:
        assert request is None
    assert not unfulfilled(home)
