"""SIGKILL of the agent before and after each entry of its journal, and at odd times."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forge.device.state_machine.journal import UpdateState
from forge.errors import RolledBackError
from tests.support.device_world import Device, Says, World, triton_processes

pytestmark = [pytest.mark.kills, pytest.mark.slow, pytest.mark.network]

# The agent itself, with one line more: it kills itself when its journal enters a state.
BOMB = """
import os, signal, sys
from pathlib import Path
from forge import device
from forge.device.state.directory import StateDirectory
state, when, folder = sys.argv[1:]
write = StateDirectory.write_journal
def bomb(home, journal):
    if when == "before" and journal.state == state:
        os.kill(os.getpid(), signal.SIGKILL)
    write(home, journal)
    if when == "after" and journal.state == state:
        os.kill(os.getpid(), signal.SIGKILL)
StateDirectory.write_journal = bomb
device.run(Path(folder), once=True)
"""
GOOD: tuple[UpdateState, ...] = ("fetching", "staged", "activating", "probing", "committed", "idle")
MOMENTS = ("before", "after")


def kill_at(device: Device, state: UpdateState, when: str) -> None:
    argv = [sys.executable, "-c", BOMB, state, when, str(device.state)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def check_nothing_is_left(device: Device) -> None:
    until = time.monotonic() + 30
    while triton_processes(device.state) and time.monotonic() < until:
        time.sleep(0.05)
    assert triton_processes(device.state) == []


def check_a_valid_slot(device: Device, version: str) -> None:
    slot = device.home.current()
    assert slot is not None
    manifest = device.home.slots.manifest(slot)
    assert manifest is not None
    assert manifest.version == version


def check_tidy(device: Device) -> None:
    assert list(device.home.tmp.iterdir()) == []
    assert list(device.state.glob(".*")) == []
    for slot in (device.state / "slots").iterdir():
        assert {path.name for path in slot.iterdir()} <= {
            "tree",
            "tree.json",
            "proofs",
            "manifest.json",
        }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose device has 1.0.0 in slot a."""
    world = World(tmp_path_factory.mktemp("installed"))
    world.publish("1.0.0")
    world.device().once()
    return world


def copy_of(installed: World, folder: Path) -> tuple[World, Device]:
    """The same world in another folder, so that each test begins with 1.0.0 in slot a."""
    shutil.copytree(installed.folder, folder / "world", symlinks=True)
    world = World(folder / "world")
    device = world.device("device")
    device.follow(world)
    return world, device


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("state", GOOD)
def test_a_killed_update_leaves_a_valid_slot_and_gets_through_afterwards(
    installed: World, tmp_path: Path, state: UpdateState, when: str
) -> None:
    world, device = copy_of(installed, tmp_path)
    world.publish("1.1.0", Says(words="Paris it is"))
    kill_at(device, state, when)
    check_nothing_is_left(device)
    moved = state == "idle"  # `current` is moved between committed and idle
    check_a_valid_slot(device, "1.1.0" if moved else "1.0.0")
    device.once()
    check_a_valid_slot(device, "1.1.0")
    assert device.status.state == "idle"
    assert device.status.rollbacks == ()
    check_tidy(device)


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("state", ["rolling-back", "idle"])
def test_a_killed_rollback_ends_with_the_old_slot(
    installed: World, tmp_path: Path, state: UpdateState, when: str
) -> None:
    world, device = copy_of(installed, tmp_path)
    world.publish("1.1.0", Says(words="Rome"))
    kill_at(device, state, when)
    check_nothing_is_left(device)
    check_a_valid_slot(device, "1.0.0")
    try:
        device.once()
    except RolledBackError as error:  # the verdict was not yet written: it is tried once more
        assert (state, when) == ("rolling-back", "before")
        assert "Rome" in str(error)  # noqa: PT017 - only one of the cases raises
    check_a_valid_slot(device, "1.0.0")
    [verdict] = device.status.bad
    assert "Rome" in verdict.reason
    world.publish("1.2.0", Says(words="Paris after all"))
    device.once()
    check_a_valid_slot(device, "1.2.0")
    check_tidy(device)


@pytest.mark.parametrize("state", ["fetching", "activating", "committed"])
def test_a_killed_first_install_gets_through_afterwards(tmp_path: Path, state: UpdateState) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    device = world.device()
    kill_at(device, state, "after")
    check_nothing_is_left(device)
    assert device.home.current() is None
    device.once()
    check_a_valid_slot(device, "1.0.0")
    check_tidy(device)


def test_a_bundle_whose_activation_is_killed_each_time_waits_and_gets_through_in_the_end(
    installed: World, tmp_path: Path
) -> None:
    world, device = copy_of(installed, tmp_path)
    world.publish("1.1.0")
    for _ in range(3):
        kill_at(device, "probing", "after")
    device.once()
    check_a_valid_slot(device, "1.0.0")
    [verdict] = device.status.rollbacks
    assert "was interrupted 3 times (round 1), last because the agent was killed" in verdict.reason
    assert device.status.bad == ()
    device.once()  # the check that it waits was that one
    check_a_valid_slot(device, "1.1.0")
    assert device.status.interrupted is None


@pytest.mark.parametrize("seconds", [0.3, 1.2, 2.4])
def test_a_serving_agent_killed_at_any_time_serves_again(
    installed: World, tmp_path: Path, seconds: float
) -> None:
    world, device = copy_of(installed, tmp_path)
    world.publish("1.1.0", Says(words="Paris it is", load_s=0.5))
    with device.running() as agent:
        time.sleep(seconds)
        agent.kill()
    check_nothing_is_left(device)
    check_a_valid_slot(device, device.status.release.version if device.status.release else "")
    with device.running() as agent:
        agent.wait_ready("1.1.0")
        assert agent.ask() == "Paris it is"


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_an_agent_killed_thirty_times_at_random_has_the_newest_version_in_the_end(
    installed: World, tmp_path: Path
) -> None:
    world, device = copy_of(installed, tmp_path)
    dice = random.Random(13)  # noqa: S311 - reproducible, not secret
    newest = ""
    for kill in range(30):
        if kill % 6 == 0:
            newest = f"1.{1 + kill // 6}.0"
            world.publish(newest, Says(words="Paris it is", load_s=0.5))
        with device.running() as agent:
            time.sleep(dice.uniform(0, 2))
            agent.kill()
        check_nothing_is_left(device)
    with device.running() as agent:
        agent.wait_ready(newest)
    assert device.status.bad == ()
    assert device.status.interrupted is None
