"""SIGKILL of a serving agent before and after each entry of its journal in a blue-green update."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from forge.device.state_machine.journal import UpdateState
from tests.support.device_world import Agent, Device, Says, World, triton_processes
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.kills, pytest.mark.slow, pytest.mark.network]

# The agent itself, serving, with one line more: it kills itself when its journal enters a state
# on the way to another version.
BOMB = """
import os, signal, sys
from pathlib import Path
from forge import device
from forge.device.gateway.config import GatewayConfig
from forge.device.state.directory import StateDirectory
state, when, folder = sys.argv[1:]
write = StateDirectory.write_journal
def bomb(home, journal):
    wanted = journal.state == state
    if when == "before" and wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    write(home, journal)
    if when == "after" and wanted:
        os.kill(os.getpid(), signal.SIGKILL)
StateDirectory.write_journal = bomb
device.run(Path(folder), gateway_config=GatewayConfig(port=0), poll_s=1)
"""
FIRST = Says(words="Paris first", activation="blue-green")
SECOND = replace(FIRST, words="Paris second", load_s=1.0)


def kill_at(device: Device, state: UpdateState, when: str) -> None:
    argv = [sys.executable, "-c", BOMB, state, when, str(device.state)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until = time.monotonic() + 30
    while triton_processes(device.state):  # of either slot
        assert time.monotonic() < until
        time.sleep(0.05)


def versions_until(agent: Agent, last: str) -> list[str]:
    """Versions that were ready, in their order, until this one is."""
    seen: list[str] = []
    until = time.monotonic() + 90
    while not seen or seen[-1] != last:
        assert time.monotonic() < until, agent.log.read_text()
        version = agent.ready()
        if version is not None and version not in seen[-1:]:
            seen.append(version)
        time.sleep(0.02)
    return seen


@pytest.fixture
def device(tmp_path: Path) -> Device:
    world = World(tmp_path)
    world.publish("1.0.0", FIRST)
    device = world.device()
    device.once()
    world.publish("1.1.0", SECOND)
    return device


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", ["fetching", "staged", "activating", "probing", "committed"])
def test_after_a_kill_the_old_slot_serves_until_the_new_one_is_committed(
    device: Device, state: UpdateState, when: str
) -> None:
    kill_at(device, state, when)
    with device.running() as agent:
        seen = versions_until(agent, "1.1.0")
        assert agent.ask() == SECOND.words
    committed = (state, when) == ("committed", "after")
    assert seen == (["1.1.0"] if committed else ["1.0.0", "1.1.0"])
    assert (device.home.current(), device.status.state) == ("b", "idle")
    assert device.status.rollbacks == ()
    assert not device.home.journal().blue_green
    assert triton_processes(device.state) == []


def test_a_bundle_whose_activation_is_killed_each_time_is_given_up_for_now_and_the_old_one_serves(
    device: Device,
) -> None:
    for _ in range(3):
        kill_at(device, "probing", "after")
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        agent.wait(lambda status: status.interrupted is not None)
        assert agent.ask() == FIRST.words
    late = device.status.interrupted
    assert late is not None
    assert "was interrupted 3 times (round 1), last because the agent was killed" in late.reason
    assert device.status.bad == ()


def test_a_killed_rollback_by_hand_goes_on_while_the_newer_one_serves(device: Device) -> None:
    device.once()  # installs 1.1.0
    (device.state / "asked.json").write_text('{"what": "rollback", "reason": "too slow"}')
    kill_at(device, "activating", "after")
    with device.running() as agent:
        assert versions_until(agent, "1.0.0") == ["1.1.0", "1.0.0"]
    assert device.status.held is not None
    assert device.status.held.release.version == "1.1.0"


@pytest.mark.parametrize("which", ["old", "new"])
def test_either_server_killed_right_after_the_switch_costs_no_slot(
    device: Device, which: str
) -> None:
    with device.running() as agent:
        agent.wait(lambda status: status.state == "activating")
        old = min(triton_processes(device.state))
        agent.wait_ready("1.1.0")
        for process in triton_processes(device.state):
            if (process == old) == (which == "old"):
                os.kill(process, signal.SIGKILL)
        with Traffic.on(agent.url, clients=1) as traffic:
            traffic.wait(lambda so_far: so_far.versions() == {"1.1.0"})
        until = time.monotonic() + 60
        while len(triton_processes(device.state)) != 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert agent.ask() == SECOND.words
    assert device.status.rollbacks == ()
