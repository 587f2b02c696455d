"""The agent as a service: the gateway in a thread, the look at the channel in a loop."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from forge.device.agent import Agent, timestamp
from forge.device.api_keys import ApiKeys
from forge.device.door import Door
from forge.device.hardware import Hardware
from forge.device.live import Live
from forge.device.operation import Operation
from forge.device.report import AgentReport, HardwareReport, write_agent
from forge.device.signals import no_signals
from forge.device.slots import Home
from forge.errors import ForgeError, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Service"]

_JITTER: Final = 0.1
_GRACE_S: Final = 5


@dataclass(frozen=True, slots=True)
class Service:
    """What `run` without `once` is made of."""

    home: Home
    agent: Agent
    live: Live
    operation: Operation
    hardware: Hardware
    say: Callable[[str], None]

    def run(self, door: Door, keys: ApiKeys | None, poll_s: float) -> None:
        """Serve and look until a signal comes. Raises UsageError if the port is taken."""
        from forge.device.answers import Triton
        from forge.device.gateway import GatewayRules, create_app

        listening = _listen(door.host, door.port)
        shown = f"[{door.host}]" if ":" in door.host else door.host
        url = f"http://{shown}:{listening.getsockname()[1]}"
        started = timestamp(datetime.now(UTC))
        guard = self.operation.guard
        rules = GatewayRules(limit_s=door.limit_s, keys=keys)
        app = create_app(self.live, Triton(), self.describe, guard.limit, rules)
        with guard.running(), _gateway(listening, app):
            self.say(f"listening on {url}")
            self._report(url, started)
            self._tell(self.agent.start)
            while True:
                self._tell(self.agent.update)
                self.operation.refresh()
                self._report(url, started)
                # Jitter spreads a fleet that was switched on by one fuse.
                self._wait(poll_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no key

    def describe(self) -> HardwareReport:
        """The document of /v1/hardware."""
        serving, _ = self.live.get()
        condition = self.operation.power(), self.operation.heat()
        look = self.agent.look
        return HardwareReport.of(self.hardware, self.home.journal(), look, serving, condition)

    def _tell(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ForgeError as error:
            self.say(str(error))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, self.agent.tend()))

    def _report(self, url: str, started: str) -> None:
        report = AgentReport(
            pid=os.getpid(),
            url=url,
            started=started,
            hardware=self.hardware,
            look=self.agent.look,
        )
        with contextlib.suppress(OSError):  # a full disk must not end what serves
            write_agent(self.home, report)


@contextlib.contextmanager
def _gateway(listening: socket.socket, app: FastAPI) -> Iterator[None]:
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="gateway", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        with no_signals():
            server.should_exit = True
            thread.join(2 * _GRACE_S)
            listening.close()


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        message = f"The gateway cannot listen on {host}:{port}"
        hint = f"choose another with --port, or see who has it: ss -ltnp 'sport = :{port}'"
        raise UsageError(message, why=str(error), hint=hint) from None
    return listening
