"""The agent's pauses: between tries to serve what cannot serve, and to install what fails here."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

import forge.device.handover
from forge.device.agent import Agent
from forge.device.detection import Detection
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.journal import Journal, Release
from forge.device.live import Live
from forge.device.slots import Home, Provisioned
from forge.device.updater import Offer, Updater
from forge.errors import ForgeError, StoreError
from forge.store import stopping
from forge.trust.proof_keys import ProofKeys
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


def test_a_release_that_fails_for_local_reasons_is_fetched_less_and_less_often(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Release] = []
    fetched: list[int] = []  # at which looks
    offered = manifest("1.1.0")
    detection = Detection(profile="development", reasons=(), warnings=())
    keys = ProofKeys(build=(), model=())

    def look(_updater: Updater, _installed: Release | None) -> Offer:
        looks.append(Release.of(offered))
        return Offer(offered, Release.of(offered), detection, (), keys)

    def fetch(_updater: Updater, *_arguments: object) -> None:
        fetched.append(len(looks))
        raise StoreError("the disk is full")

    monkeypatch.setattr(Updater, "look", look)
    monkeypatch.setattr(Updater, "fetch", fetch)
    for _ in range(40):
        with contextlib.suppress(StoreError):
            agent.update()
    assert fetched == [1, 2, 4, 8, 16, 32]
    assert agent.journal.rollbacks == ()
    offered = manifest("1.2.0")  # another release is tried at once
    with contextlib.suppress(StoreError):
        agent.update()
    assert fetched[-1] == len(looks) == 41


def test_a_wish_ends_a_look_that_hangs_and_nothing_is_installed_before_it(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_updater: Updater, _installed: Release | None) -> Offer:
        stopping.sleep(60)
        raise AssertionError

    monkeypatch.setattr(Updater, "look", look)
    agent.asked = lambda: True
    begin = time.monotonic()
    agent.update()
    assert time.monotonic() - begin < 5
    assert agent.journal.state == "idle"


def test_a_wish_that_came_during_a_look_goes_before_what_the_look_found(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = manifest("1.1.0")
    detection = Detection(profile="development", reasons=(), warnings=())
    keys = ProofKeys(build=(), model=())
    fetched: list[object] = []
    monkeypatch.setattr(
        Updater, "look", lambda *_: Offer(offered, Release.of(offered), detection, (), keys)
    )
    monkeypatch.setattr(Updater, "fetch", lambda *arguments: fetched.append(arguments))
    agent.asked = lambda: True
    agent.update()
    assert (fetched, agent.journal.state) == ([], "idle")


def test_a_slot_is_not_healed_while_the_store_is_read_for_an_update(agent: Agent) -> None:
    updater = agent._updater
    with (
        updater._alone(),
        pytest.raises(StoreError, match="being read for an update"),
    ):
        updater.heal("a", Release.of(manifest("1.0.0")))


def test_a_wish_ends_a_fetch_and_the_device_may_go_back_to_what_the_slot_held(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, old, offered = agent._home, manifest("0.9.0"), manifest("1.1.0")
    detection = Detection(profile="development", reasons=(), warnings=())
    offer = Offer(offered, Release.of(offered), detection, (), ProofKeys(build=(), model=()))
    home.empty("b")
    home.seal("b", old)
    before = agent.journal.model_copy(
        update={"slots": {**agent.journal.slots, "b": Release.of(old)}, "previous": Release.of(old)}
    )
    agent._journal = before
    begun: list[float] = []

    def fetch(_updater: Updater, *_arguments: object) -> None:
        home.empty("b")
        begun.append(time.monotonic())
        stopping.sleep(60)
        raise AssertionError

    monkeypatch.setattr(Updater, "look", lambda *_: offer)
    monkeypatch.setattr(Updater, "fetch", fetch)
    agent.asked = lambda: bool(begun)
    agent.update()
    assert time.monotonic() - begun[0] < 5
    assert (agent.journal.state, agent.journal.previous) == ("idle", Release.of(old))
    assert agent.journal.slots == before.slots
    assert home.manifest("b") == old
    begun.clear()
    monkeypatch.setattr(stopping, "sleep", lambda _seconds: None)
    with pytest.raises(AssertionError):
        agent.update()  # what was stopped for a wish counts as no failure: it is tried at once


def test_what_a_look_was_read_from_is_known_also_where_it_failed(agent: Agent) -> None:
    home, places = agent._home, tuple(str(agent._home.path / name) for name in ("hub", "usb"))
    device = Provisioned(store_url=places[0], mirrors=places[1:], name="llm", channel="stable")
    mirrored = Agent(home, Updater(home, device, b"{}", parse(collect())), Live(), print)
    with pytest.raises(ForgeError):
        mirrored.update()
    assert mirrored.look is not None
    assert tuple(one.url for one in mirrored.look.places) == places
    with pytest.raises(ForgeError):
        agent.update()
    assert agent.look is not None
    assert agent.look.places == ()  # there is no choice
