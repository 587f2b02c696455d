"""What serves is looked after while an update takes its time: a slow line, a look that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import forge.device
from forge.device import maintenance
from forge.device.shared.release import SlotName
from forge.device.state.settings import read_settings
from forge.device.update.disk_space import reclaimable
from tests.support.device_world import Agent, Device, Says, World, triton_processes
from tests.support.webserver import make_authority, web_server

pytestmark = [pytest.mark.network]

RATE = 16 * 1024  # bytes a second; what 1.1.0 adds takes about a minute
NEW = Says(words="Paris of now", ballast=1_300_000)
MET = 300_000 + 200_000  # on the disk: what the old one has, too, and some that was fetched


@pytest.fixture
def slow(
    world: World, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Device]:
    """A device that serves 1.0.0 and reaches its store over a slow line."""
    authority = make_authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    store = world.folder / "store"
    with web_server(store, tmp_path / "web", authority=authority) as server:
        forge.device.provision(
            device.state, server.url, world.root, "llm", "stable", limit_rate=RATE
        )
        yield device


def fetching(agent: Agent) -> None:
    agent.wait(lambda status: status.state == "fetching")


def test_a_server_that_is_killed_during_a_slow_pull_serves_again_before_its_end(
    world: World, slow: Device
) -> None:
    with slow.running(poll_s=1) as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", NEW)
        fetching(agent)
        killed = triton_processes(slow.state)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        agent.wait(lambda _status: agent.ready() is None, 10)
        agent.wait_ready("1.0.0")
        assert agent.ask() == "The capital is Paris"
        assert slow.status.state == "fetching"
        assert not set(triton_processes(slow.state)) & set(killed)


def test_a_signal_ends_an_agent_whose_pull_waits_within_seconds(world: World, slow: Device) -> None:
    with slow.running(poll_s=1) as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", NEW)
        fetching(agent)
        begin = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - begin < 15
    assert triton_processes(slow.state) == []


def came(device: Device, slot: SlotName) -> int:
    """Bytes of a fetch that is not complete."""
    return reclaimable(device.home.slots.folder(slot).glob(".tree.*"))


@pytest.mark.real_triton
def test_a_rollback_ends_a_slow_pull_goes_back_at_once_and_loses_no_byte(
    world: World, slow: Device
) -> None:
    url = read_settings(slow.home.path)[0].store_url
    slow.follow(world)
    world.publish("1.1.0", Says(words="Paris of now"))
    slow.once()
    world.publish("1.2.0", NEW)
    forge.device.provision(slow.state, url, world.root, "llm", "stable", limit_rate=RATE)
    with slow.running(poll_s=1) as agent:
        agent.wait_ready("1.1.0")
        agent.wait(lambda status: status.state == "fetching" and came(slow, "a") > MET)
        begin = time.monotonic()
        found = maintenance.rollback(slow.state, "too slow")
        assert time.monotonic() - begin < 30
        assert found.release is not None
        assert (found.slot, found.release.version) == ("a", "1.0.0")
        agent.wait_ready("1.0.0")
        agent.wait(lambda status: status.state == "fetching")
    assert came(slow, "a") + came(slow, "b") > MET  # whether it was moved already, or not
    slow.follow(world)
    slow.once()
    fetched = [one for one in maintenance.history(slow.state) if one.event == "fetched"][-1]
    assert fetched.release is not None
    assert fetched.release.version == "1.2.0"
    assert fetched.fetched_bytes < 900_000  # of the million that is new
    assert came(slow, "a") == came(slow, "b") == 0
