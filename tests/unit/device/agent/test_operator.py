"""Operators' requests: which are carried out, and which are dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.device.agent.agent import Agent
from forge.device.agent.operator import handle_pending
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release
from forge.device.shared.upstream import Upstream
from forge.device.state.directory import StateDirectory
from forge.device.state.operator_requests import OperatorRequest, pending, submit, unfulfilled
from forge.device.state.settings import DeviceSettings
from forge.device.state_machine.journal import Journal
from forge.device.update.updater import Updater
from forge.errors import ForgeError, UsageError
from tests.support.manifests import manifest

OLD, NEW, NEWER = (Release.of(manifest(version)) for version in ("1.0.0", "1.1.0", "1.2.0"))


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    """The state folder of a device that went from OLD in slot a to NEW in slot b."""
    made = StateDirectory(tmp_path / "state")
    made.clean()
    made.write_journal(Journal(active="b", previous=OLD, slots={"a": OLD, "b": NEW}))
    return made


def agent(home: StateDirectory) -> Agent:
    device = DeviceSettings(store_url=str(home.path / "gone"), name="llm", channel="stable")
    return Agent(home, Updater(home, device, b"{}", HardwareWatch()), Upstream())


def test_a_rollback_from_a_release_that_no_longer_serves_is_dropped_with_an_error(
    home: StateDirectory,
) -> None:
    submit(home, OperatorRequest(what="rollback", leaves=NEW.manifest))
    newer = Journal(active="a", previous=NEW, slots={"a": NEWER, "b": NEW})
    home.write_journal(newer)
    dropped = r"The rollback request was dropped: llm 1\.2\.0 .* serves by now"
    with pytest.raises(UsageError, match=dropped):
        handle_pending(home, agent(home))
    assert home.journal() == newer
    assert not pending(home)


@pytest.mark.parametrize("leaves", [NEW.manifest, None])
def test_a_rollback_from_what_serves_is_tried(home: StateDirectory, leaves: str | None) -> None:
    submit(home, OperatorRequest(what="rollback", leaves=leaves))
    running = agent(home)
    # The slots are empty here, so that it is tried and fails.
    with pytest.raises(ForgeError) as caught:
        handle_pending(home, running)
    assert not isinstance(caught.value, UsageError)
    assert running.journal.rollbacks[-1].release == OLD


def test_a_request_as_older_versions_wrote_it_is_still_read(home: StateDirectory) -> None:
    (home.path / "asked.json").write_text('{"what": "release", "reason": "rolled back by hand"}')
    with pytest.raises(UsageError, match="No release is held back"):
        handle_pending(home, agent(home))


def test_a_request_that_was_taken_is_unfulfilled_until_it_is_done(
    home: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender would else find the journal as it was, and report that nothing was done."""
    seen: list[tuple[str, bool, bool]] = []

    go_back = Agent.go_back

    def observed(agent: Agent, reason: str) -> None:
        seen.append((home.journal().state, pending(home), unfulfilled(home)))
        go_back(agent, reason)

    monkeypatch.setattr(Agent, "go_back", observed)

    submit(home, OperatorRequest(what="rollback"))
    with pytest.raises(ForgeError):  # the slots are empty here
        handle_pending(home, agent(home))
    assert seen[0] == ("idle", False, True)
    assert not unfulfilled(home)
