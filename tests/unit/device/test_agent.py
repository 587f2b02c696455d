"""The agent's pauses between tries to serve a slot that cannot serve."""

from __future__ import annotations

from pathlib import Path

import pytest

import forge.device.handover
from forge.device.agent import Agent
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.journal import Journal, Release
from forge.device.live import Live
from forge.device.slots import Home, Provisioned
from forge.device.updater import Updater
from tests.unit.device.test_slots import manifest


class Clock:
    """Monotonic time by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent whose active slot is empty, so that it cannot be served."""
    home = Home(tmp_path / "state")
    home.clean()
    home.write_journal(Journal(active="a", slots={"a": Release.of(manifest("1.0.0"))}))
    device = Provisioned(store_url=str(tmp_path / "gone"), name="llm", channel="stable")
    updater = Updater(home, device, b"{}", parse(collect()))
    return Agent(home, updater, Live(), lambda _text: None)


def test_a_slot_that_cannot_serve_is_tried_less_and_less_often(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(forge.device.handover, "time", clock)
    agent.start()
    pauses = []
    for _ in range(20):
        pauses.append(agent.tend())
        clock.now += pauses[-1]
    assert pauses[:6] == [2, 4, 8, 16, 32, 60]
    assert clock.now > 1000 + 900  # well past the time after which a server counts as steady
    assert set(pauses[6:]) == {60}


def test_crashes_of_a_slot_that_cannot_serve_are_written_down(agent: Agent) -> None:
    agent.start()
    for _ in range(4):
        agent.tend()
    assert agent.journal.crashes == 4
    assert agent.journal.bad == ()
    assert agent.journal.active == "a"
