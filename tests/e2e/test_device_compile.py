"""A bundle whose engine the device compiles itself: real agent, store, signatures and Triton.

A Jetson's compiler is not here; a child process stands for it at the boundary of its argv.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.serving.triton.containment import WRITE
from tests.support.compiler import StandIn, wanted
from tests.support.device_world import Agent, Device, Says, World

pytestmark = [pytest.mark.network]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(tmp_path / "compiler")
    made.behave()
    monkeypatch.setenv("PATH", str(made.folder), prepend=":")
    monkeypatch.setenv(WRITE, str(made.folder))
    return made


@pytest.mark.real_triton
def test_old_slot_serves_while_the_engine_compiles_and_the_result_is_kept(
    world: World, stand_in: StandIn
) -> None:
    stand_in.behave(layers=12, pause_s=0.5)
    world.publish("1.0.0")
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", Says(words="Paris, compiled here", compiled=wanted()))
        _wait_for(agent, "compiling: layer")
        assert agent.ask() == "The capital is Paris"
        agent.wait_ready("1.1.0")
        assert agent.ask() == "Paris, compiled here"
        # Other prompts and limits, the same export: nothing is compiled again.
        again = Says(words="Paris, compiled here", compiled=wanted(), ballast=200_000)
        world.publish("1.2.0", again)
        agent.wait_ready("1.2.0")
        assert " is compiled already" in agent.log.read_text()
    assert stand_in.runs == 1
    engine = device.home.slots.compiled("a") / "answer.json"
    assert engine.stat().st_nlink >= 2


def test_engine_that_does_not_compile_is_refused_and_the_old_slot_serves(
    world: World, stand_in: StandIn
) -> None:
    stand_in.behave(fails=True)
    world.publish("1.0.0")
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", Says(compiled=wanted()))
        agent.wait(lambda status: bool(status.bad))
        assert agent.ready() == "1.0.0"
        assert agent.ask() == "The capital is Paris"
        [verdict] = device.status.bad
        assert "no kernel for this layer" in verdict.reason
        runs = stand_in.runs
        time.sleep(3)  # three looks at the channel
        assert stand_in.runs == runs == 1


def test_device_without_the_compiler_keeps_serving_and_blames_nobody(
    world: World, stand_in: StandIn
) -> None:
    stand_in.remove()
    world.publish("1.0.0")
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", Says(words="Paris at last", compiled=wanted()))
        _wait_for(agent, "is not installed on this device")
        assert device.status.bad == ()
        stand_in.behave()
        agent.wait_ready("1.1.0")
        assert agent.ask() == "Paris at last"


def test_agent_killed_while_compiling_serves_the_old_slot_and_compiles_again(
    world: World, stand_in: StandIn
) -> None:
    stand_in.behave(layers=200, pause_s=0.5)
    world.publish("1.0.0")
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", Says(words="Paris again", compiled=wanted()))
        _wait_for(agent, "compiling: layer")
        agent.kill()
    _wait_until(lambda: _half_made(device) != [] and not _compilers(stand_in))
    stand_in.behave(layers=12, pause_s=0.5)
    with device.running() as agent:
        agent.wait_ready("1.0.0")  # while it compiles again
        assert agent.ask() == "The capital is Paris"
        agent.wait_ready("1.1.0")
        assert agent.ask() == "Paris again"
    assert stand_in.runs == 2
    assert _half_made(device) == []


def _wait_for(agent: Agent, text: str) -> None:
    _wait_until(lambda: text in agent.log.read_text())


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within 60 s")


def _half_made(device: Device) -> list[Path]:
    return list(device.home.engines.glob(".tmp-*"))


def _compilers(stand_in: StandIn) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(stand_in.folder) in words:
            found.append(words)
    return found
