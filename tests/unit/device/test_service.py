"""The agent's loop round its gateway: a port that is taken, a gateway that ends."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from forge.device.agent import Agent
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.heat import HeatGuard
from forge.device.limit import Limit
from forge.device.live import Live
from forge.device.metrics import Metrics
from forge.device.operation import Operation
from forge.device.power_control import PowerControl
from forge.device.service import Service, listen
from forge.device.signals import StopAskedError
from forge.device.slots import Home, Provisioned
from forge.device.updater import Updater
from forge.errors import StepFailedError, UsageError


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


def test_a_gateway_that_ended_ends_the_agent(service: Service) -> None:
    gateway = threading.Thread(target=lambda: None)
    gateway.start()
    gateway.join()
    begin = time.monotonic()
    with pytest.raises(StepFailedError, match="gateway ended by itself") as caught:
        service._wait(600, gateway)
    assert time.monotonic() - begin < 10
    assert caught.value.exit_code == 5


def test_the_loop_ends_when_its_time_is_up(service: Service) -> None:
    stop = threading.Event()
    gateway = threading.Thread(target=stop.wait)
    gateway.start()
    try:
        service._wait(0.2, gateway)
    finally:
        stop.set()
        gateway.join()


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
