"""Updates and rollbacks while applications ask without a pause, with a real Triton per slot."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from forge.bundle import Operating
from forge.device.hardware.facts import collect
from forge.device.hardware.inventory import parse
from forge.device.maintenance import rollback
from forge.device.thermal.monitor import ThermalReport
from forge.errors import FitError
from forge.profiles import PowerSection, ThermalSection
from tests.support.device_world import Agent, Device, Says, World, triton_processes
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.network]


def says(words: str, **changes: Any) -> Says:
    return Says(**{"words": words, "pause_s": 0.02, "activation": "blue-green", **changes})


FIRST, SECOND = says("Paris first"), says("Paris second")
WORDS = {"1.0.0": FIRST.words, "1.1.0": SECOND.words}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def device(world: World) -> Device:
    world.publish("1.0.0", FIRST)
    return world.device()


@pytest.fixture
def agent(device: Device) -> Iterator[Agent]:
    """A device that serves 1.0.0."""
    with device.running() as running:
        running.wait_ready("1.0.0")
        yield running


def wait_for_one_triton(device: Device) -> int:
    """Until the server that was left has ended; returns the process id of the other."""
    until = time.monotonic() + 30
    while len(found := triton_processes(device.state)) != 1:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found[0]


def check_right(traffic: Traffic) -> None:
    """Each answer is that of the version that it says."""
    assert all(one.text == WORDS[one.version] for one in traffic.outcomes if one.status == 200)


class Stream(threading.Thread):
    """One long answer, read to its end beside whatever the test does."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.lines: list[str] = []
        self.begun = threading.Event()
        self.start()
        assert self.begun.wait(30)

    def run(self) -> None:
        body = {"prompt": "France?", "stream": True}
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("POST", f"{self._url}/v1/inference", json=body) as response,
        ):
            for line in response.iter_lines():
                self.lines.append(line)
                self.begun.set()


@pytest.mark.real_triton
def test_no_request_fails_through_an_update_and_a_rollback(
    world: World, device: Device, agent: Agent
) -> None:
    with Traffic.on(agent.url) as traffic:
        traffic.wait(lambda so_far: len(so_far.outcomes) > 20)
        world.publish("1.1.0", SECOND)
        traffic.wait(lambda so_far: "1.1.0" in so_far.versions())
        wait_for_one_triton(device)
        rollback(device.state, "too slow")
        returned = len(traffic.outcomes)
        traffic.wait(lambda so_far: so_far.outcomes[-1].version == "1.0.0")
        traffic.wait(lambda so_far: len(so_far.outcomes) > returned + 20)
    assert traffic.failed == []
    assert traffic.versions() == {"1.0.0", "1.1.0"}
    check_right(traffic)
    assert (device.home.current(), device.status.state) == ("a", "idle")
    wait_for_one_triton(device)


def test_in_a_swap_each_refusal_is_a_503_that_says_why(
    world: World, device: Device, agent: Agent
) -> None:
    with Traffic.on(agent.url) as traffic:
        world.publish("1.1.0", replace(SECOND, activation="swap"))
        traffic.wait(lambda so_far: "1.1.0" in so_far.versions())
        rollback(device.state, "too slow")
        traffic.wait(lambda so_far: so_far.outcomes[-1].version == "1.0.0")
    check_right(traffic)
    assert traffic.failed
    assert {one.status for one in traffic.failed} == {503}
    assert all("is being activated" in one.text for one in traffic.failed)
    assert all(int(one.retry_after) > 0 for one in traffic.failed)


@pytest.mark.parametrize(
    ("bad", "said"),
    [(says("Berlin"), "Berlin"), (says("Paris", fails=True, load_s=0.5), "does not load")],
    ids=["answers wrongly", "does not load"],
)
def test_a_bad_bundle_never_stops_the_old_one(
    world: World, device: Device, agent: Agent, bad: Says, said: str
) -> None:
    [serves] = triton_processes(device.state)
    with Traffic.on(agent.url) as traffic:
        world.publish("1.1.0", bad)
        agent.wait(lambda status: bool(status.bad))
        assert wait_for_one_triton(device) == serves
        agent.wait(lambda status: status.state == "idle")
    assert traffic.failed == []
    assert traffic.versions() == {"1.0.0"}
    assert said in device.status.bad[0].reason


def test_a_request_ends_on_the_slot_where_it_began(world: World, device: Device) -> None:
    slow = says("Paris " + "and " * 80 + "so on", pause_s=0.1)
    world.publish("1.0.1", slow)
    with device.running() as agent:
        agent.wait_ready("1.0.1")
        stream = Stream(agent.url)
        world.publish("1.1.0", SECOND)
        agent.wait_ready("1.1.0")
        assert stream.is_alive()  # the old slot still answers it
        assert agent.ask() == SECOND.words
        # The next version goes into the very slot that still answers: it waits for that.
        world.publish("1.2.0", says("Paris third"))
        stream.join(60)
        assert "event: done" in stream.lines
        assert len([line for line in stream.lines if line == "event: token"]) == 83
        agent.wait_ready("1.2.0")
        wait_for_one_triton(device)


def test_an_old_server_that_dies_meanwhile_makes_it_a_swap(
    world: World, device: Device, agent: Agent
) -> None:
    [serves] = triton_processes(device.state)
    world.publish("1.1.0", says("Paris second", load_s=5.0))
    agent.wait(lambda status: status.state == "activating")
    os.kill(serves, signal.SIGKILL)
    agent.wait_ready("1.1.0")
    assert device.status.rollbacks == ()
    assert "Triton ended by itself" in agent.log.read_text()
    wait_for_one_triton(device)


def test_limits_of_a_bundle_hold_from_the_switch_on_and_not_before(
    world: World, agent: Agent
) -> None:
    def most() -> int | None:
        report = httpx.get(f"{agent.url}/v1/hardware", trust_env=False).json()
        return ThermalReport.model_validate(report["heat"]).most

    operating = Operating(
        power=PowerSection(mode=None, limit_w=None, lock_clocks=False),
        thermal=ThermalSection(throttle_c=83, critical_c=90, batch_floor=1),
    )
    world.publish("1.1.0", says("Berlin"), operating=operating)
    agent.wait(lambda status: bool(status.bad))
    assert most() is None
    world.publish("1.2.0", SECOND, operating=operating)
    agent.wait_ready("1.2.0")
    assert most() == 4


def test_a_machine_without_room_for_both_refuses_before_any_download(
    world: World, device: Device
) -> None:
    device.once()
    total = parse(collect()).memory_mib
    assert total is not None
    memory_mib = total * 2 // 3
    world.publish("1.1.0", SECOND, memory_mib=memory_mib)
    with pytest.raises(
        FitError, match=rf"blue-green and needs {memory_mib} MiB of memory in addition"
    ):
        device.once()
    assert device.status.release is not None
    assert device.status.release.version == "1.0.0"
    world.publish("1.2.0", replace(SECOND, activation="swap"), memory_mib=memory_mib)
    device.once()
    assert device.home.current() == "b"
