"""The agent's loop round its gateway: a port that is taken, a gateway that ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import uvicorn
from starlette.applications import Starlette

import forge.device.gateway.server
from forge.device import commands, daemon, maintenance
from forge.device.agent.agent import Agent
from forge.device.agent.operating_point import OperatingPoint
from forge.device.daemon import Service
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.server import http_server, listen
from forge.device.hardware.watch import HardwareWatch
from forge.device.power.control import PowerControl
from forge.device.reporter import StatusReporter
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.signals import StopAskedError, ask_to_stop, stop_on_signals
from forge.device.shared.upstream import Upstream
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import DeviceSettings
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.history import DeviceEvent
from forge.device.telemetry.metrics import Metrics
from forge.device.telemetry.status import AgentReport, ChannelCheck, read_once, write_once
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.update.updater import Updater
from forge.errors import RolledBackError, StepFailedError, StoreError
from forge.serving.triton import containment
from forge.store import cancellation
from tests.support.release_world import World


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A device with nothing installed and a store that is not there."""
    home = StateDirectory(tmp_path / "state")
    home.clean()
    watch, upstream = HardwareWatch(), Upstream()
    device = DeviceSettings(store_url=str(tmp_path / "gone"), name="llm", channel="stable")
    updater = Updater(home, device, b"{}", watch)
    agent = Agent(home, updater, upstream)
    guard = ThermalMonitor(ConcurrencyLimit())
    operation = OperatingPoint(home, PowerControl(), guard, watch)
    reporter = StatusReporter(home, report)
    return Service(home, agent, upstream, operation, Metrics(), reporter)


def report(check: ChannelCheck | None) -> AgentReport:
    return AgentReport(
        pid=1, url=None, started="2026-11-30T00:00:00Z", hardware=HardwareWatch().current(),
        look=check,
    )  # fmt: skip


def waits() -> None:
    """Nothing to do until the next look."""


def looks() -> None:
    """A store that hangs, or a bundle that takes hours."""
    cancellation.sleep(60)


@pytest.mark.parametrize("meanwhile", [waits, looks])
def test_a_gateway_that_ends_ends_the_agent_whatever_it_does(
    service: Service, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> None:
    servers = []

    def made(app: Starlette) -> uvicorn.Server:
        servers.append(http_server(app))
        return servers[0]

    def look(_updater: Updater, _installed: object) -> None:
        servers[0].should_exit = True  # the gateway's thread ends, and nobody asked for it
        meanwhile()
        raise StoreError("the store is gone")

    monkeypatch.setattr(forge.device.gateway.server, "http_server", made)
    monkeypatch.setattr(Updater, "check_channel", look)
    begin = time.monotonic()
    with (
        stop_on_signals(),
        pytest.raises(StepFailedError, match="gateway ended unexpectedly") as caught,
    ):
        service.run(listen("127.0.0.1", 0), GatewayConfig(), None, 600)
    assert time.monotonic() - begin < 15
    assert caught.value.exit_code == 5


def test_the_loop_of_the_agent_notices_that_the_gateway_ended(
    service: Service,
) -> None:
    with stop_on_signals():
        ask_to_stop()
        with pytest.raises(StopAskedError):
            service.agent.turn()


def test_a_signal_is_not_taken_for_a_gateway_that_ended(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Updater, "check_channel", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(StopAskedError), stop_on_signals():
        service.run(listen("127.0.0.1", 0), GatewayConfig(), None, 600)


def test_the_loop_ends_when_its_time_is_up(service: Service) -> None:
    service._wait(0.2)


def test_an_oserror_of_the_work_is_logged_and_ends_nothing(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    service._try(fail)
    assert caplog.messages == ["[Errno 5] Input/output error"]


def test_a_mistake_in_a_look_is_logged_with_its_traceback_and_ends_nothing(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise KeyError("a document without it")

    service._try(fail)
    [record] = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "forge.device.daemon")
    assert "please report it" in caplog.text
    assert 'in fail\n    raise KeyError("a document without it")' in caplog.text


def test_a_signal_is_not_taken_for_a_bug(service: Service) -> None:
    def stop() -> None:
        raise StopAskedError

    with pytest.raises(StopAskedError):
        service._try(stop)


def test_a_failed_run_once_is_in_status_and_history(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")
    world.release("1.0.0")
    world.promote("1.0.0", "stable")
    state, root = tmp_path / "state", (world.keys / "metadata" / "1.root.json").read_bytes()
    commands.provision(state, str(tmp_path / "world" / "store"), root, "demo", "stables")
    with pytest.raises(StoreError, match="demo has no channel 'stables'") as caught:
        daemon.run(state, once=True)
    assert "did you mean 'stable'?" in caught.value.hint
    found = commands.status(state)
    assert found.agent is None
    assert found.look is not None
    assert found.look.error == str(caught.value)
    last = maintenance.history(state)[-1]
    assert (last.event, last.reason) == ("check-failed", str(caught.value))


def test_a_run_once_that_finds_a_store_again_clears_the_error(tmp_path: Path) -> None:
    home = StateDirectory(tmp_path / "state")
    home.clean()
    write_once(home, ChannelCheck(at="2026-11-24T04:00:00Z", error="the store was away"))
    agent = SimpleNamespace(channel_check=ChannelCheck(at="2026-11-25T04:00:00Z"))
    events: list[DeviceEvent] = []
    with daemon._recorded(home, cast("Agent", agent), events.append):
        pass
    assert read_once(home) == agent.channel_check
    assert events == []


def test_a_bundle_that_was_not_kept_is_in_the_history_once(tmp_path: Path) -> None:
    home = StateDirectory(tmp_path / "state")
    home.clean()
    events: list[DeviceEvent] = []
    agent = cast("Agent", SimpleNamespace(channel_check=None, contact=StoreContact()))
    with pytest.raises(RolledBackError), daemon._recorded(home, agent, events.append):
        raise RolledBackError("demo 1.1.0 was not kept", why="the probe failed")
    assert events == []
    found = read_once(home)
    assert found is not None
    assert found.error == "demo 1.1.0 was not kept: the probe failed"


@pytest.mark.parametrize("in_force", [(), containment.MECHANISMS])
def test_an_agent_is_hidden_whatever_contains_its_server(
    monkeypatch: pytest.MonkeyPatch, in_force: tuple[str, ...]
) -> None:
    """With Landlock too: not all that runs as its user is contained."""
    found, hidden = containment.Containment(in_force=in_force), list[None]()
    monkeypatch.setattr(containment, "available", lambda: found)
    monkeypatch.setattr(containment, "hide_from_others", lambda: hidden.append(None))
    daemon._contain()
    assert hidden == [None]
