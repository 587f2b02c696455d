"""The agent's loop: its pauses, what an operator's request ends, and that no action is nested."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import forge.device.agent.cutover
import forge.device.agent.supervisor
from forge.device.agent.agent import Agent
from forge.device.agent.executor import ActionExecutor
from forge.device.agent.supervisor import Supervisor
from forge.device.hardware.profile_match import Detection
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release
from forge.device.shared.signals import StopAskedError, stop_on_signals
from forge.device.shared.upstream import Upstream
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import DeviceSettings
from forge.device.state_machine.actions import Action
from forge.device.state_machine.events import Crashed
from forge.device.state_machine.journal import InterruptedRelease, Journal
from forge.device.update.backoff import ReleaseBackoff
from forge.device.update.updater import Offer, Updater
from forge.errors import ForgeError, StepFailedError, StoreError, UsageError
from forge.store import cancellation
from forge.trust.proof_keys import ProofKeys
from tests.support.manifests import manifest


class Clock:
    """Monotonic time by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def pending() -> list[Callable[[], bool]]:
    """Whether an operator's request waits: the last one decides."""
    return [lambda: False]


@pytest.fixture
def agent(tmp_path: Path, pending: list[Callable[[], bool]]) -> Agent:
    """An agent whose active slot is empty, so that it cannot be served."""
    home = StateDirectory(tmp_path / "state")
    home.clean()
    home.write_journal(Journal(active="a", slots={"a": Release.of(manifest("1.0.0"))}))
    device = DeviceSettings(store_url=str(tmp_path / "gone"), name="llm", channel="stable")
    updater = Updater(home, device, b"{}", HardwareWatch())
    return Agent(home, updater, Upstream(), request_pending=lambda: pending[-1]())  # noqa: PLW0108


def test_a_slot_that_cannot_serve_is_tried_less_and_less_often(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = use(monkeypatch, Clock())
    agent.start()
    tried: list[float] = []
    before = agent.journal.crashes
    while len(tried) < 20:
        agent.turn(0)
        if agent.journal.crashes > before:
            before = agent.journal.crashes
            tried.append(clock.now)
        clock.now += 1
    pauses = [later - sooner for sooner, later in pairwise(tried)]
    assert pauses[:6] == [2, 4, 8, 16, 32, 60]
    assert clock.now > 1000 + 900  # well past the time after which a server counts as steady
    assert set(pauses[6:]) == {60}


def use(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """Let the supervisor live by this clock."""
    for module in (forge.device.agent.cutover, forge.device.agent.supervisor):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_crashes_of_a_slot_that_cannot_serve_are_written_down(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = use(monkeypatch, Clock())
    agent.start()
    for _ in range(4):
        agent.turn(0)
        clock.now += 100
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

    monkeypatch.setattr(Updater, "check_channel", look)
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


def test_a_release_that_was_interrupted_too_often_waits_for_checks_and_not_for_a_restart(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, fetched = manifest("1.1.0"), list[Release]()
    release = Release.of(offered)
    detection = Detection(profile="development", reasons=(), warnings=())
    offer = Offer(offered, release, detection, (), ProofKeys(build=(), model=()))

    def fetch(_updater: Updater, offer: Offer, *_arguments: object) -> None:
        fetched.append(offer.release)
        raise StoreError("the disk is full")

    monkeypatch.setattr(Updater, "check_channel", lambda _updater, _installed: offer)
    monkeypatch.setattr(Updater, "fetch", fetch)
    home = agent._home
    late = InterruptedRelease(release=release, times=2, checks=3, reason="power", at="now")
    interrupted = agent.journal.model_copy(update={"interrupted": late})

    def checks(count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(StoreError):
                agent.update()

    agent._write(interrupted)
    checks(2)
    agent.start("the machine was restarted")
    checks(1)
    assert fetched == []
    left = home.journal().interrupted
    assert left is not None
    assert left.checks == 0
    checks(1)
    assert fetched == [release]
    agent._write(interrupted)
    agent.lift_hold()
    assert home.journal().interrupted is None
    with pytest.raises(UsageError, match="No release is held back"):
        agent.lift_hold()
    checks(1)
    assert fetched == [release, release]


def test_an_activation_that_was_interrupted_too_often_is_logged_with_its_cause(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    new = Release.of(manifest("1.1.0"))
    trying = {"state": "probing", "target": "b", "candidate": new, "attempts": 3}
    agent._write(agent.journal.model_copy(update=trying))
    agent.start("the machine lost power")
    assert agent.journal.state == "idle"
    [said] = [text for text in caplog.messages if "is not tried for now" in text]
    assert "3 times (round 1), last because the machine lost power" in said


def test_a_request_ends_a_look_that_hangs_and_nothing_is_installed_before_it(
    agent: Agent, pending: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_updater: Updater, _installed: Release | None) -> Offer:
        cancellation.sleep(60)
        raise AssertionError

    monkeypatch.setattr(Updater, "check_channel", look)
    pending.append(lambda: True)
    begin = time.monotonic()
    agent.update()
    assert time.monotonic() - begin < 5
    assert agent.journal.state == "idle"


def test_a_request_that_came_during_a_look_goes_before_what_the_look_found(
    agent: Agent, pending: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = manifest("1.1.0")
    detection = Detection(profile="development", reasons=(), warnings=())
    keys = ProofKeys(build=(), model=())
    fetched: list[object] = []
    monkeypatch.setattr(
        Updater,
        "check_channel",
        lambda *_: Offer(offered, Release.of(offered), detection, (), keys),
    )
    monkeypatch.setattr(Updater, "fetch", lambda *arguments: fetched.append(arguments))
    pending.append(lambda: True)
    agent.update()
    assert (fetched, agent.journal.state) == ([], "idle")


def test_a_slot_is_not_repaired_while_the_store_is_read_for_an_update(agent: Agent) -> None:
    updater = agent._updater
    with (
        updater._alone(),
        pytest.raises(StoreError, match="being read for an update"),
    ):
        updater.repair("a", Release.of(manifest("1.0.0")))


def test_a_request_ends_a_fetch_and_the_device_may_go_back_to_what_the_slot_held(
    agent: Agent, pending: list[Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, old, offered = agent._home, manifest("0.9.0"), manifest("1.1.0")
    detection = Detection(profile="development", reasons=(), warnings=())
    offer = Offer(offered, Release.of(offered), detection, (), ProofKeys(build=(), model=()))
    home.slots.set_aside("b")
    home.slots.mark_complete("b", old)
    before = agent.journal.model_copy(
        update={"slots": {**agent.journal.slots, "b": Release.of(old)}, "previous": Release.of(old)}
    )
    agent._journal = before
    begun: list[float] = []

    def fetch(_updater: Updater, *_arguments: object) -> None:
        home.slots.set_aside("b")
        begun.append(time.monotonic())
        cancellation.sleep(60)
        raise AssertionError

    monkeypatch.setattr(Updater, "check_channel", lambda *_: offer)
    monkeypatch.setattr(Updater, "fetch", fetch)
    pending.append(lambda: bool(begun))
    agent.update()
    assert time.monotonic() - begun[0] < 5
    assert (agent.journal.state, agent.journal.previous) == ("idle", Release.of(old))
    assert agent.journal.slots == before.slots
    assert home.slots.manifest("b") == old
    begun.clear()
    monkeypatch.setattr(cancellation, "sleep", lambda _seconds: None)
    with pytest.raises(AssertionError):
        agent.update()  # what was stopped for a request counts as no failure: it is tried at once


def test_what_a_look_was_read_from_is_known_also_where_it_failed(agent: Agent) -> None:
    home, places = agent._home, tuple(str(agent._home.path / name) for name in ("hub", "usb"))
    device = DeviceSettings(store_url=places[0], mirrors=places[1:], name="llm", channel="stable")
    mirrored = Agent(home, Updater(home, device, b"{}", HardwareWatch()), Upstream())
    with pytest.raises(ForgeError):
        mirrored.update()
    assert mirrored.channel_check is not None
    assert tuple(one.url for one in mirrored.channel_check.places) == places
    with pytest.raises(ForgeError):
        agent.update()
    assert agent.channel_check is not None
    assert agent.channel_check.places == ()  # there is no choice


def test_a_slot_that_current_names_is_not_overwritten(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, offered = agent._home, manifest("1.1.0")
    home.slots.set_aside("b")
    home.slots.mark_complete("b", manifest("0.9.0"))
    home.switch("b")  # as where the link could not be switched when slot a was committed
    detection = Detection(profile="development", reasons=(), warnings=())
    offer = Offer(offered, Release.of(offered), detection, (), ProofKeys(build=(), model=()))
    fetched: list[str | None] = []

    def fetch(_updater: Updater, *_arguments: object) -> None:
        fetched.append(home.current())
        raise StoreError("the store is gone")

    def no_links(_home: StateDirectory, _slot: str) -> None:
        raise StoreError("the link cannot be switched")

    monkeypatch.setattr(Updater, "check_channel", lambda *_: offer)
    monkeypatch.setattr(Updater, "fetch", fetch)
    with monkeypatch.context() as broken:
        broken.setattr(StateDirectory, "switch", no_links)
        with pytest.raises(StoreError, match="cannot be switched"):
            agent.update()
    assert fetched == []
    assert home.slots.manifest("b") == manifest("0.9.0")
    assert agent.journal.bad == ()
    agent._backoff = ReleaseBackoff()
    with pytest.raises(StoreError, match="the store is gone"):
        agent.update()
    assert fetched == ["a"]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the actions that were executed; fails where one begins inside another."""
    names: list[str] = []
    execute = ActionExecutor.execute

    def checked(executor: ActionExecutor, action: Action, *arguments: Any) -> None:
        frame = sys._getframe(1)
        while (frame := frame.f_back) is not None:  # type: ignore[assignment]
            assert frame.f_code is not execute.__code__, f"{action} inside of an action"
        names.append(type(action).__name__)
        execute(executor, action, *arguments)

    monkeypatch.setattr(ActionExecutor, "execute", checked)
    return names


def a_device_that_can_go_back(agent: Agent) -> None:
    old, journal = Release.of(manifest("0.9.0")), agent.journal
    changes = {"slots": {**journal.slots, "b": old}, "previous": old}
    agent._journal = journal.model_copy(update=changes)


def test_a_device_is_behind_from_the_moment_at_which_another_release_serves(agent: Agent) -> None:
    a_device_that_can_go_back(agent)
    offered = agent.journal.active_release
    assert offered is not None
    agent._contact.succeeded(offered, offered)
    assert agent.contact.behind_since is None
    agent._write(agent.journal.model_copy(update={"active": "b"}))
    assert agent.contact.behind_since is not None
    agent._write(agent.journal.model_copy(update={"active": "a"}))
    assert agent.contact.behind_since is None


def test_a_slot_that_crashes_during_a_fetch_is_served_again_and_no_action_is_nested(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, executed: list[str]
) -> None:
    use(monkeypatch, Clock())
    offered, fetches = manifest("1.1.0"), threading.Event()
    detection = Detection(profile="development", reasons=(), warnings=())
    offer = Offer(offered, Release.of(offered), detection, (), ProofKeys(build=(), model=()))

    def fetch(_updater: Updater, *_arguments: object) -> None:
        fetches.set()
        while executed.count("Serve") < 2:  # by the main thread, while this one fetches
            time.sleep(0.01)
        raise StoreError("the store is gone")

    monkeypatch.setattr(Updater, "check_channel", lambda *_: offer)
    monkeypatch.setattr(Updater, "fetch", fetch)
    monkeypatch.setattr(Supervisor, "check", crashes_once(agent, fetches))
    with pytest.raises(StoreError, match="the store is gone"):
        agent.update()
    assert executed == ["Fetch", "Serve", "Serve", "Serve"]  # the last one ends the update
    assert agent.journal.crashes == 0  # while an update is under way they are not counted


def crashes_once(agent: Agent, when: threading.Event) -> Callable[..., None]:
    posted: list[Crashed] = []

    def check(_supervisor: Supervisor, _journal: Journal, *, may_restart: bool) -> None:
        assert may_restart
        if when.is_set() and len(posted) < 2:
            posted.append(Crashed("killed", "2026-11-28T00:00:00Z", 1.0, release_fault=True))
            agent._events.put(posted[-1])

    return check


def test_three_crashes_during_a_look_go_back_with_no_action_inside_another(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, executed: list[str]
) -> None:
    """The look goes on in its thread while the other slot is activated."""
    clock = use(monkeypatch, Clock())
    a_device_that_can_go_back(agent)
    agent.start()

    def look(*_arguments: object) -> Offer:
        while "GoBack" not in executed:
            clock.now += 1
            time.sleep(0.001)
        raise StoreError("the store is gone")

    monkeypatch.setattr(Updater, "check_channel", look)
    with pytest.raises(ForgeError):
        agent.update()
    # Neither slot holds anything here, so that the way back fails as well.
    assert executed == ["Serve", "Serve", "Serve", "Activate", "GoBack", "Serve"]
    assert agent.journal.state == "idle"
    assert not agent.busy


def test_an_offer_found_during_a_rollback_is_considered_after_it(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, executed: list[str]
) -> None:
    clock = use(monkeypatch, Clock())
    a_device_that_can_go_back(agent)
    agent.start()
    offered, found = manifest("1.1.0"), threading.Event()
    detection = Detection(profile="development", reasons=(), warnings=())
    offer = Offer(offered, Release.of(offered), detection, (), ProofKeys(build=(), model=()))

    def look(*_arguments: object) -> Offer:
        while "Activate" not in executed:
            clock.now += 1
            time.sleep(0.001)
        found.set()
        return offer

    def start(*_arguments: object) -> float:
        assert found.wait(30)
        time.sleep(0.5)  # so that the offer is handled before
        raise StepFailedError("no port")

    def fetch(_updater: Updater, *_arguments: object) -> None:
        raise StoreError("the store is gone")

    monkeypatch.setattr(Updater, "check_channel", look)
    monkeypatch.setattr(Updater, "fetch", fetch)
    monkeypatch.setattr(forge.device.agent.cutover.Cutover, "start", start)
    with pytest.raises(StoreError, match="the store is gone"):
        agent.update()
    assert [name for name in executed if name != "Serve"] == ["Activate", "GoBack", "Fetch"]


def test_after_an_error_nothing_is_left_under_way(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def look(*_arguments: object) -> None:
        try:
            cancellation.sleep(60)
        finally:
            ended.set()

    def fail(*_arguments: object, **_options: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Updater, "check_channel", look)
    monkeypatch.setattr(Supervisor, "check", fail)
    with pytest.raises(KeyError, match="a bug"):
        agent.update()
    assert ended.is_set()
    assert not agent.busy


def test_a_signal_ends_a_check_that_takes_no_notice(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def check(*_arguments: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        go_on.wait(60)

    monkeypatch.setattr(Updater, "check_channel", check)
    with pytest.raises(StopAskedError), stop_on_signals():
        agent.update()
    begin = time.monotonic()
    agent.stop()
    assert time.monotonic() - begin < 10
    go_on.set()
