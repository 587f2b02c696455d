"""The agent's loop round its gateway: a port that is taken, a gateway that ends."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

import forge.device.service
from forge.device.agent import Agent
from forge.device.door import Door
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.heat import HeatGuard
from forge.device.limit import Limit
from forge.device.live import Live
from forge.device.metrics import Metrics
from forge.device.operation import Operation
from forge.device.power_control import PowerControl
from forge.device.service import Service, http_server, listen
from forge.device.signals import StopAskedError, ask_to_stop, stop_on_signals
from forge.device.slots import Home, Provisioned
from forge.device.updater import Updater
from forge.errors import StepFailedError, StoreError, UsageError
from forge.store import stopping


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A device with nothing installed and a store that is not there."""
    home = Home(tmp_path / "state")
    home.clean()
    hardware, live, said = parse(collect()), Live(), list[str]()
    device = Provisioned(store_url=str(tmp_path / "gone"), name="llm", channel="stable")
    updater = Updater(home, device, b"{}", hardware)
    agent = Agent(home, updater, live, said.append)
    guard = HeatGuard(Limit(), hardware.kind)
    operation = Operation(home, PowerControl(hardware.kind), guard, said.append)
    return Service(home, agent, live, operation, hardware, said.append, Metrics())


def test_the_port_is_listened_on_before_anything_is_started() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass  # the kernel answers though nobody accepts yet
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


def waits() -> None:
    """Nothing to do until the next look."""


def looks() -> None:
    """A store that hangs, or a bundle that takes hours."""
    stopping.sleep(60)


@pytest.mark.parametrize("meanwhile", [waits, looks])
def test_a_gateway_that_ends_ends_the_agent_whatever_it_does(
    service: Service, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> None:
    servers = []

    def made(app: FastAPI) -> uvicorn.Server:
        servers.append(http_server(app))
        return servers[0]

    def look(_updater: Updater, _installed: object) -> None:
        servers[0].should_exit = True  # the gateway's thread ends, and nobody asked for it
        meanwhile()
        raise StoreError("the store is gone")

    monkeypatch.setattr(forge.device.service, "http_server", made)
    monkeypatch.setattr(Updater, "look", look)
    begin = time.monotonic()
    with (
        stop_on_signals(),
        pytest.raises(StepFailedError, match="gateway ended by itself") as caught,
    ):
        service.run(Door("127.0.0.1", 0), None, 600)
    assert time.monotonic() - begin < 15
    assert caught.value.exit_code == 5


def test_what_is_called_while_something_takes_long_hears_that_the_gateway_ended(
    service: Service,
) -> None:
    with stop_on_signals():
        ask_to_stop()
        with pytest.raises(StopAskedError):
            service.agent.tend()


def test_a_signal_is_not_taken_for_a_gateway_that_ended(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Updater, "look", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(StopAskedError), stop_on_signals():
        service.run(Door("127.0.0.1", 0), None, 600)


def test_the_loop_ends_when_its_time_is_up(service: Service) -> None:
    service._wait(0.2)


def test_an_oserror_of_the_work_is_said_and_ends_nothing(service: Service) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    service._tell(fail)


def test_a_mistake_in_a_look_is_logged_with_its_traceback_and_ends_nothing(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise KeyError("a document without it")

    told = replace(service, say=print)
    told._tell(fail)
    said = capsys.readouterr().out
    assert "please report it" in said
    assert 'in fail\n    raise KeyError("a document without it")' in said


def test_a_signal_is_no_mistake(service: Service) -> None:
    def stop() -> None:
        raise StopAskedError

    with pytest.raises(StopAskedError):
        service._tell(stop)
