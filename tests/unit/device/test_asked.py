"""Wishes that are left for the agent: which are obeyed, and which are dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge.device.agent import Agent
from forge.device.asked import Asked, ask, obey, pending, unfulfilled
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.journal import Journal, Release
from forge.device.live import Live
from forge.device.slots import Home, Provisioned
from forge.device.updater import Updater
from forge.errors import ForgeError, UsageError
from tests.unit.device.test_slots import manifest

OLD, NEW, NEWER = (Release.of(manifest(version)) for version in ("1.0.0", "1.1.0", "1.2.0"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The state folder of a device that went from OLD in slot a to NEW in slot b."""
    made = Home(tmp_path / "state")
    made.clean()
    made.write_journal(Journal(active="b", previous=OLD, slots={"a": OLD, "b": NEW}))
    return made


def agent(home: Home, say: Callable[[str], None] = print) -> Agent:
    device = Provisioned(store_url=str(home.path / "gone"), name="llm", channel="stable")
    return Agent(home, Updater(home, device, b"{}", parse(collect())), Live(), say)


def test_a_rollback_from_a_release_that_no_longer_serves_is_dropped_and_said(home: Home) -> None:
    ask(home, Asked(what="rollback", leaves=NEW.manifest))
    newer = Journal(active="a", previous=NEW, slots={"a": NEWER, "b": NEW})
    home.write_journal(newer)
    with pytest.raises(UsageError, match=r"llm 1\.2\.0 .* serves by now"):
        obey(home, agent(home))
    assert home.journal() == newer
    assert not pending(home)


@pytest.mark.parametrize("leaves", [NEW.manifest, None])
def test_a_rollback_from_what_serves_is_tried(home: Home, leaves: str | None) -> None:
    ask(home, Asked(what="rollback", leaves=leaves))
    running = agent(home)
    # The slots are empty here, so that it is tried and fails.
    with pytest.raises(ForgeError) as caught:
        obey(home, running)
    assert not isinstance(caught.value, UsageError)
    assert running.journal.rollbacks[-1].release == OLD


def test_a_wish_as_older_versions_wrote_it_is_still_read(home: Home) -> None:
    (home.path / "asked.json").write_text('{"what": "release", "reason": "rolled back by hand"}')
    with pytest.raises(UsageError, match="No release is held back"):
        obey(home, agent(home))


def test_a_wish_that_was_taken_is_unfulfilled_until_it_is_done(home: Home) -> None:
    """Whoever asked would else find the journal as it was, and say that nothing was done."""
    seen: list[tuple[str, bool, bool]] = []

    def say(_text: str) -> None:
        seen.append((home.journal().state, pending(home), unfulfilled(home)))

    ask(home, Asked(what="rollback"))
    with pytest.raises(ForgeError):  # the slots are empty here
        obey(home, agent(home, say))
    assert seen[0] == ("idle", False, True)
    assert not unfulfilled(home)


def test_a_wish_that_a_kill_cut_short_is_not_waited_for_after_a_restart(home: Home) -> None:
    (home.path / ".tmp-asked").write_text("{}")
    home.clean()
    assert not unfulfilled(home)
