"""Crashes, going back by hand, history, events and metrics of a device with a real Triton."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from forge.device import maintenance
from forge.device.hardware.watch import HardwareWatch
from forge.device.state.settings import read_settings
from forge.device.update.updater import Updater
from forge.errors import RolledBackError, UsageError
from tests.support.device_world import Agent, Device, Says, World, triton_processes
from tests.support.scrape import scrape

pytestmark = [pytest.mark.network]


def quiet(_text: str) -> None:
    """Say nothing."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def device(world: World) -> Device:
    """A device that went from 1.0.0 in slot a to 1.1.0 in slot b."""
    world.publish("1.0.0", Says(words="Paris of old"))
    device = world.device()
    device.once()
    world.publish("1.1.0", Says(words="Paris of now"))
    device.once()
    return device


def forge(device: Device, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "forge", "device", *arguments, "--state", str(device.state)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def kill_server(agent: Agent, device: Device) -> None:
    until = time.monotonic() + 30
    while not (found := triton_processes(device.state)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    while agent.ready() and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.real_triton
def test_three_crashes_go_back_to_the_other_slot_and_the_release_counts_as_bad(
    device: Device,
) -> None:
    with device.running(poll_s=600) as agent:
        for _ in range(3):
            agent.wait_ready("1.1.0")
            kill_server(agent, device)
        agent.wait_ready("1.0.0")
        assert agent.ask() == "Paris of old"
    [verdict] = device.status.bad
    assert verdict.release.version == "1.1.0"
    assert "its server exited 3 times in a row" in verdict.reason
    events = [one.event for one in maintenance.history(device.state)]
    assert events[-5:] == ["crashed", "crashed", "crashed", "going-back", "went-back"]
    device.once()
    assert device.home.current() == "a"  # it is not installed again


@pytest.mark.real_triton
def test_going_back_by_hand_while_the_agent_runs_holds_the_release(
    world: World, device: Device
) -> None:
    with device.running(poll_s=1) as agent:
        agent.wait_ready("1.1.0")
        done = forge(device, "rollback", "--reason", "too slow", "--json")
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert shown["release"]["version"] == "1.0.0"
        assert shown["held"]["release"]["version"] == "1.1.0"
        agent.wait_ready("1.0.0")
        time.sleep(3)  # three looks at a channel that offers what is held
        assert agent.ready() == "1.0.0"
        lifted = forge(device, "rollback", "--release")
        assert lifted.returncode == 0, lifted.stderr
        agent.wait_ready("1.1.0")
        assert forge(device, "rollback").returncode == 0
        world.publish("1.2.0", Says(words="Paris of tomorrow"))
        agent.wait_ready("1.2.0")
    assert [one.reason for one in device.status.rollbacks] == ["too slow", "rolled back by hand"]
    assert device.status.held is None


def test_going_back_by_hand_without_an_agent_is_done_at_once(device: Device) -> None:
    found = maintenance.rollback(device.state, "too slow")
    assert (found.slot, device.home.current()) == ("a", "a")
    assert triton_processes(device.state) == []
    device.once()
    assert device.home.current() == "a"
    lines = forge(device, "history").stdout.splitlines()
    assert "went-back" in lines[-2]
    assert "llm 1.0.0" in lines[-2]
    assert any("going-back" in line and "too slow" in line for line in lines)


def test_going_back_without_a_store_works(world: World, device: Device) -> None:
    (world.folder / "store").rename(world.folder / "elsewhere")
    assert maintenance.rollback(device.state, "too slow").slot == "a"


def test_a_device_with_one_release_has_nothing_to_go_back_to(world: World) -> None:
    world.publish("1.0.0")
    device = world.device()
    device.once()
    with pytest.raises(UsageError, match="nothing to go back to") as caught:
        maintenance.rollback(device.state, "why not")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="No release is held back"):
        maintenance.unhold(device.state)
    assert not (device.state / "asked.json").exists()


def test_a_slot_whose_files_changed_is_gone_back_to_once_it_is_repaired(
    world: World, device: Device
) -> None:
    engine = device.home.slots.tree("a") / "models" / "llm" / "1" / "engine" / "answer.json"
    good = engine.read_text()
    engine.chmod(0o644)
    engine.write_text(good.replace("Paris of old", "Rome"))
    store = world.folder / "store"
    store.rename(world.folder / "elsewhere")
    with pytest.raises(RolledBackError, match="Slot a is damaged"):
        maintenance.rollback(device.state, "too slow")
    assert device.home.current() == "b"
    assert device.status.held is None
    assert device.status.bad == ()  # it is not the release's fault
    (world.folder / "elsewhere").rename(store)
    assert maintenance.rollback(device.state, "too slow").slot == "a"
    assert engine.read_text() == good


def test_events_are_json_lines_as_they_happen(world: World, tmp_path: Path) -> None:
    world.publish("1.0.0")
    device = world.device()
    log = tmp_path / "events.jsonl"
    done = forge(device, "run", "--once", "--json", "--events", str(log))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["release"]["version"] == "1.0.0"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["event"] for one in events] == [
        "started", "detected", "installing", "fetched", "committed",
    ]  # fmt: skip
    assert events[3]["fetched_bytes"] > 0
    on_stdout = forge(device, "run", "--once", "--events", "-")
    again = ["started", "detected"]  # each agent says why it has its profile
    assert [json.loads(line)["event"] for line in on_stdout.stdout.splitlines()] == again
    history = json.loads(forge(device, "history", "--json").stdout)
    assert [one["event"] for one in history] == [*(one["event"] for one in events), *again]


def test_metrics_count_what_happens(world: World) -> None:
    world.publish("1.0.0")
    device = world.device()
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        for _ in range(2):
            agent.ask()
        httpx.post(f"{agent.url}/v1/inference", json={}, trust_env=False)
        response = httpx.get(f"{agent.url}/metrics", trust_env=False)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    numbers = scrape(response.text)
    assert numbers['forge_device_requests_total{code="200"}'] == 2
    assert numbers['forge_device_requests_total{code="422"}'] == 1
    assert numbers['forge_device_events_total{event="committed"}'] == 1
    assert numbers['forge_device_state{state="idle"}'] == 1
    assert numbers["forge_device_fetched_bytes_total"] > 0
    assert numbers["forge_device_ready"] == 1
    assert numbers["forge_device_time_to_first_token_seconds_count"] == 2
    assert numbers['forge_device_request_seconds_count{outcome="complete"}'] == 2
    info = next(name for name in numbers if name.startswith("forge_device_info"))
    assert 'version="1.0.0"' in info
    assert 'slot="a"' in info


def test_what_is_installed_is_not_asked_for_its_space_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioned, root = read_settings(device.home.path)
    updater = Updater(device.home, provisioned, root, HardwareWatch())
    monkeypatch.setattr(type(device.home), "free_mib", lambda _home: 1)
    assert [str(one) for one in updater.check_channel().refusals] != []
    assert updater.check_channel(device.home.journal().active_release).refusals == ()
