"""Which slot's server gets the requests, and when the other one is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from forge.device.agent import cutover
from forge.device.agent.cutover import Cutover
from forge.device.agent.slot_servers import SlotServers
from forge.device.shared.release import Release, SlotName
from forge.device.shared.signals import StopAskedError, ask_to_stop, stop_on_signals
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.errors import LoadFailedError
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))


@dataclass
class Clock:
    """Monotonic time by hand."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Servers:
    """Servers that only know whether they run; each call is written down."""

    log: list[str]
    running: set[SlotName] = field(default_factory=set)
    ended: dict[SlotName, str] = field(default_factory=dict)  # by themselves, and why
    fails: bool = False

    def alive(self, slot: SlotName) -> bool:
        return slot in self.running

    def start(self, slot: SlotName, beside: SlotName | None = None) -> float:
        self.log.append(f"start {slot} beside {beside}")
        if self.fails:
            raise LoadFailedError("The model was not loaded")
        self.running = {slot, *({beside} if beside else ())}
        return 1.5

    def serving(self, slot: SlotName, release: Release) -> ActiveServer:
        return ActiveServer(
            url=f"http://{slot}", model="llm", slot=slot, release=release, triton="2.51.0",
            runtime={}, default_max_tokens=16, max_seq_len=64,
        )  # fmt: skip

    def reasons(self, slot: SlotName) -> str:
        return self.ended.get(slot, "")

    def stop(self, slot: SlotName) -> None:
        self.log.append(f"stop {slot}")
        self.running.discard(slot)

    def stop_all(self, but: SlotName | None = None) -> None:
        self.log.append(f"stop all but {but}")
        self.running &= {but} if but else set()

    def die(self, slot: SlotName, reason: str) -> None:
        self.running.discard(slot)
        self.ended[slot] = reason


@dataclass
class Device:
    """A cutover over such servers; `log` has what happened in its order."""

    clock: Clock = field(default_factory=Clock)
    upstream: Upstream = field(default_factory=Upstream)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.servers = Servers(self.log)
        self.cutover = Cutover(
            self.upstream,
            cast("SlotServers", self.servers),
            lambda slot: self.log.append(f"configure {slot}, {self.serves() or 'nothing'} serves"),
            drain_s=100.0,
        )

    def serves(self) -> SlotName | None:
        serving, _ = self.upstream.get()
        return serving.slot if serving else None

    def reason(self) -> str:
        return self.upstream.get()[1]

    def enter(self) -> Callable[[], None]:
        """A request of a client; returns what ends it."""
        serving = self.upstream.enter()
        assert serving is not None
        return lambda: self.upstream.leave(serving)

    def activated(self, slot: SlotName, release: Release) -> None:
        self.cutover.activate(slot, release)
        self.log.clear()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(cutover, "time", made.clock)
    return made


def test_a_slot_that_does_not_run_is_configured_started_and_gets_the_requests(
    device: Device,
) -> None:
    device.cutover.activate("a", OLD)
    assert device.log == ["configure a, nothing serves", "start a beside None"]
    serving, _ = device.upstream.get()
    assert serving is not None
    assert (serving.slot, serving.release) == ("a", OLD)
    assert not device.cutover.draining


def test_requests_are_refused_with_the_reason_while_a_slot_starts(device: Device) -> None:
    device.servers.fails = True
    with pytest.raises(LoadFailedError):
        device.cutover.activate("a", OLD)
    assert device.serves() is None
    assert "slot a" in device.reason()


def test_activating_what_serves_changes_nothing(device: Device) -> None:
    device.activated("a", OLD)
    before = device.upstream.get()
    device.clock.now += 50
    device.cutover.activate("a", OLD)
    assert (device.log, device.upstream.get()) == ([], before)
    assert device.cutover.uptime_s() == 50


def test_in_a_swap_requests_are_refused_before_limits_and_servers_change(device: Device) -> None:
    device.activated("a", OLD)
    device.clock.now += 50
    assert device.cutover.start("b", None, NEW) == 1.5
    assert device.log == ["configure b, nothing serves", "start b beside None"]
    assert "llm 1.1.0" in device.reason()
    assert device.cutover.uptime_s() == 0  # nothing has got requests since


def test_in_a_swap_requests_that_do_not_end_are_cut_off(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cutover, "_SWAP_DRAIN_S", 0.0)
    device.activated("a", OLD)
    device.enter()
    device.cutover.start("b", None, NEW)
    assert device.log[-1] == "start b beside None"
    assert caplog.messages[0].startswith("1 requests")


def test_in_blue_green_the_old_slot_serves_until_the_new_one_is_activated(device: Device) -> None:
    device.activated("a", OLD)
    leave = device.enter()
    device.cutover.start("b", "a", NEW)
    assert device.log == ["start b beside a"]  # its limits are for a slot that serves
    assert device.serves() == "a"
    device.log.clear()
    device.cutover.activate("b", NEW)
    assert device.log == ["configure b, a serves"]
    assert (device.serves(), device.cutover.draining) == ("b", True)
    device.cutover.finish_drain()
    assert device.servers.running == {"a", "b"}  # one request has not ended
    leave()
    device.cutover.finish_drain()
    assert (device.servers.running, device.cutover.draining) == ({"b"}, False)


def test_requests_to_the_new_server_do_not_keep_the_old_one(device: Device) -> None:
    device.activated("a", OLD)
    device.cutover.start("b", "a", NEW)
    device.cutover.activate("b", NEW)
    device.enter()
    device.cutover.finish_drain()
    assert device.servers.running == {"b"}


def test_a_request_that_never_ends_is_cut_off_after_the_time_for_it(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.activated("a", OLD)
    device.enter()
    device.cutover.start("b", "a", NEW)
    device.cutover.activate("b", NEW)
    device.clock.now += 99
    device.cutover.activate("b", NEW)  # does not begin the time again
    device.cutover.finish_drain()
    assert device.servers.running == {"a", "b"}
    device.clock.now += 2
    device.cutover.finish_drain()
    assert device.servers.running == {"b"}
    assert any(text.startswith("1 requests") for text in caplog.messages)


def test_finishing_a_drain_without_one_stops_nothing(device: Device) -> None:
    device.activated("a", OLD)
    device.cutover.finish_drain()
    assert (device.log, device.servers.running) == ([], {"a"})


def test_a_new_server_that_dies_during_the_drain_is_started_beside_the_old_one(
    device: Device,
) -> None:
    device.activated("a", OLD)
    device.enter()
    device.cutover.start("b", "a", NEW)
    device.cutover.activate("b", NEW)
    device.servers.die("b", "out of memory")
    device.log.clear()
    device.cutover.activate("b", NEW)
    assert device.log[-1] == "start b beside a"
    assert (device.serves(), device.servers.running) == ("b", {"a", "b"})


def test_stopping_the_others_ends_the_drain(device: Device) -> None:
    device.activated("a", OLD)
    device.enter()
    device.cutover.start("b", "a", NEW)
    device.cutover.activate("b", NEW)
    device.cutover.stop_others("b")
    assert (device.servers.running, device.cutover.draining) == ({"b"}, False)
    assert device.serves() == "b"


def test_a_server_that_ended_gets_no_requests_and_its_reason_is_told(device: Device) -> None:
    device.activated("a", OLD)
    device.servers.die("a", "signal 9")
    assert device.cutover.handle_exit("a") == "signal 9"
    assert device.serves() is None
    assert "signal 9" in device.reason()
    assert device.log == ["stop a"]


def test_a_server_that_was_never_started_is_not_one_that_ended(device: Device) -> None:
    device.activated("a", OLD)
    assert device.cutover.handle_exit("b") == ""
    assert (device.serves(), device.log) == ("a", [])


def test_uptime_is_told_once_for_each_activation(device: Device) -> None:
    assert device.cutover.uptime_s() == 0
    device.activated("a", OLD)
    device.clock.now += 301
    assert device.cutover.uptime_s() == 301
    assert device.cutover.uptime_s() == 0


def test_watching_notices_a_dead_server_once_a_second(device: Device) -> None:
    device.activated("a", OLD)
    device.cutover.watch()
    device.servers.die("a", "signal 9")
    device.clock.now += 0.9
    device.cutover.watch()
    assert device.serves() == "a"  # each check reads all of /proc
    device.clock.now += 0.2
    device.cutover.watch()
    assert device.serves() is None


def test_watching_leaves_a_server_that_runs_and_a_device_without_one(device: Device) -> None:
    device.cutover.watch()
    device.activated("a", OLD)
    device.clock.now += 10
    device.cutover.watch()
    assert (device.serves(), device.log) == ("a", [])


def test_watching_ends_by_a_signal(device: Device) -> None:
    with stop_on_signals():
        ask_to_stop()
        with pytest.raises(StopAskedError):
            device.cutover.watch()


def test_stopping_refuses_first_and_stops_every_server(device: Device) -> None:
    device.activated("a", OLD)
    device.cutover.stop("the agent ends")
    assert (device.serves(), device.reason()) == (None, "the agent ends")
    assert device.servers.running == set()
    device.cutover.refuse("no bundle")
    assert device.reason() == "no bundle"
