"""The agent as a service: the gateway in a thread, the look at the channel in a loop."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from forge.device.agent import Agent, timestamp
from forge.device.api_keys import Keys
from forge.device.asked import obey, pending
from forge.device.door import Door
from forge.device.hardware import Hardware
from forge.device.live import Live
from forge.device.metrics import Metrics, Sample, of_device
from forge.device.operation import Operation
from forge.device.report import AgentReport, HardwareReport, write_agent
from forge.device.signals import StopAskedError, ask_to_stop, check_signals, no_signals
from forge.device.slots import Home
from forge.errors import ForgeError, StepFailedError, UsageError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from forge.device.callers import Bounds

__all__ = ["Service", "http_server", "listen"]

_JITTER: Final = 0.1
_GRACE_S: Final = 5
_BACKLOG: Final = 2048  # uvicorn's own
_TURN_S: Final = 1.0
_LAST_WORDS_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """What `run` without `once` is made of."""

    home: Home
    agent: Agent
    live: Live
    operation: Operation
    hardware: Hardware
    say: Callable[[str], None]
    metrics: Metrics
    began: float = field(default_factory=time.monotonic)

    def run(self, door: Door, keys: Keys | None, poll_s: float) -> None:
        """Serve and look until a signal comes.

        Raises:
            UsageError: the port is taken.
            StepFailedError: the gateway ended by itself.
        """
        from forge.device.answers import Triton
        from forge.device.gateway import GatewayRules, create_app

        listening = listen(door.host, door.port)
        shown = f"[{door.host}]" if ":" in door.host else door.host
        url = f"http://{shown}:{listening.getsockname()[1]}"
        started = timestamp(datetime.now(UTC))
        guard = self.operation.guard
        self.metrics.gauges = self.gauges
        self.agent.asked = lambda: pending(self.home)
        self.agent.handover.leave_s = door.limit_s + _LAST_WORDS_S
        self.agent.looked = lambda: self._report(url, started)
        rules = GatewayRules(limit_s=door.limit_s, keys=keys, hosts=door.hosts)
        triton = Triton(door.limit_s)
        app = create_app(self.live, triton, self.describe, guard.limit, rules, self.metrics)
        with guard.running(), _gateway(listening, app):
            self.say(f"listening on {url}")
            self._report(url, started)
            self._tell(self.agent.start)
            while True:
                self._tell(self.agent.update)
                self._tell(self.operation.refresh)
                # Jitter spreads a fleet that was switched on by one fuse.
                pause = poll_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no key
                self._wait(pause)

    def describe(self) -> HardwareReport:
        """The document of /v1/hardware."""
        serving, _ = self.live.get()
        condition = self.operation.power(), self.operation.heat()
        journal, look = self.agent.journal, self.agent.look
        return HardwareReport.of(self.hardware, journal, look, serving, condition)

    def gauges(self) -> tuple[Sample, ...]:
        """What /metrics shows of the device."""
        return of_device(self.agent.journal, self.live, time.monotonic() - self.began)

    def _tell(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (ForgeError, OSError) as error:
            self.say(str(error))
        # The outermost place of one look: a mistake in Forge, or in a library, must not end what
        # serves, again and again at each look. It is written down whole, and the next look tries.
        except Exception:  # noqa: BLE001
            self.say(f"a mistake in Forge, please report it:\n{traceback.format_exc()}")

    def _wait(self, seconds: float) -> None:
        """Look after what serves until the next look at the channel is due."""
        until, due = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < until:
            check_signals()
            if self._obey():
                return
            if now >= due:
                due = now + self.agent.tend()
            time.sleep(max(0.0, min(until - now, due - now, _TURN_S)))

    def _obey(self) -> bool:
        """Do what somebody asked for; whether the channel is to be looked at now."""
        try:
            asked = obey(self.home, self.agent)
        except (ForgeError, OSError) as error:
            self.say(str(error))
            return False
        return asked is not None and asked.what == "release"

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


def http_server(app: FastAPI, bounds: Bounds | None = None) -> uvicorn.Server:
    """What serves the gateway; `run` it in a thread.

    Args:
        app: the gateway.
        bounds: of its connections; by default what this process may have open allows.
    """
    import uvicorn

    from forge.device.callers import Bounds, Caller

    bounds = bounds or Bounds.here()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        # asyncio's own: at the end of uvloop's, in a thread, it was seen to raise for connections
        # that are still open.
        loop="asyncio",
        http=cast("type[Caller]", functools.partial(Caller, bounds)),  # it is only ever called
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=bounds.idle_s,
        backlog=bounds.burst,
        server_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def _gateway(listening: socket.socket, app: FastAPI) -> Iterator[None]:
    """Serve during the body. Raises StepFailedError, wherever the body is, if that ends by itself.

    Nobody is answered then, so an update that takes hours is not waited for.
    """
    server, leaving, ended = http_server(app), threading.Event(), threading.Event()

    def serve() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            if not leaving.is_set():
                ended.set()
                ask_to_stop()

    thread = threading.Thread(target=serve, name="gateway", daemon=True)
    thread.start()
    try:
        yield
    except StopAskedError:
        if not ended.is_set():
            raise
        hint = "what it logged last is above; systemd starts the agent again"
        raise StepFailedError("The gateway ended by itself", hint=hint) from None
    finally:
        with no_signals():
            leaving.set()
            server.should_exit = True
            thread.join(2 * _GRACE_S)
            listening.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket for `http_server`. Raises UsageError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where a socket says that it is TCP. With it, head and
    # first token are two writes, and the second waits 40 ms for a delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # now, so that a second agent learns of it here
    except OSError as error:
        listening.close()
        message = f"The gateway cannot listen on {host}:{port}"
        hint = f"choose another with --port, or see who has it: ss -ltnp 'sport = :{port}'"
        raise UsageError(message, why=str(error), hint=hint) from None
    return listening
