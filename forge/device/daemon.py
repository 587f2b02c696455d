"""The device agent as a service: build its parts, serve the API in a thread, poll the channel."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from forge.device.agent.agent import Agent, timestamp
from forge.device.agent.operating_point import OperatingPoint
from forge.device.agent.operator import handle_pending
from forge.device.agent.weights_reader import ReadingSchedule
from forge.device.gateway.api_keys import Keys
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.server import listen, serve_in_background
from forge.device.hardware.watch import HardwareWatch
from forge.device.power.control import PowerControl
from forge.device.power.energy_account import EnergyAccount
from forge.device.reporter import StatusReporter
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.signals import StopAskedError, check_signals, no_signals, stop_on_signals
from forge.device.shared.times import Beginning
from forge.device.shared.upstream import Upstream
from forge.device.state.directory import StateDirectory
from forge.device.state.operator_requests import pending
from forge.device.state.settings import DeviceSettings, read_settings
from forge.device.telemetry import log_files
from forge.device.telemetry.condition_samples import (
    channel_samples,
    expiry_samples,
    heat_samples,
    power_samples,
)
from forge.device.telemetry.contact_samples import (
    contact_samples,
    progress_samples,
    weights_samples,
)
from forge.device.telemetry.device_samples import count_event, declare_events, device_samples
from forge.device.telemetry.energy_samples import energy_samples
from forge.device.telemetry.history import DetectionLog, DeviceEvent, EventListener, History
from forge.device.telemetry.metrics import Metrics, Sample
from forge.device.telemetry.repeated_errors import RepeatedErrors
from forge.device.telemetry.status import (
    AgentActivity,
    AgentReport,
    ChannelCheck,
    HardwareReport,
    write_once,
)
from forge.device.telemetry.tracing import Tracer, tracer_of
from forge.device.telemetry.triton_samples import triton_samples
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.update.last_run import recorded
from forge.device.update.updater import Updater
from forge.errors import ContainmentUnknownError, ForgeError, RolledBackError
from forge.serving.triton import containment
from forge.serving.triton.containment import Containment

__all__ = ["Service", "allow_many", "run"]

_log = logging.getLogger(__name__)

_MANY: Final = 65536  # as the systemd unit says; some programs look at every one they could have
_JITTER: Final = 0.1
_TURN_S: Final = 1.0
_LAST_WORDS_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of `run` without `once`.

    Attributes:
        home: the state directory.
        agent: of this device.
        upstream: what serves.
        operation: power and heat.
        metrics: what /metrics shows.
        reporter: tells `forge device status` of the running agent.
        tracer: makes a span of each request; None makes none.
        energy: of the device and of its requests.
    """

    home: StateDirectory
    agent: Agent
    upstream: Upstream
    operation: OperatingPoint
    metrics: Metrics
    reporter: StatusReporter
    tracer: Tracer | None = None
    energy: EnergyAccount = field(default_factory=EnergyAccount)
    began: float = field(default_factory=time.monotonic)
    errors: RepeatedErrors = field(default_factory=lambda: RepeatedErrors(_log))

    def run(
        self,
        listening: socket.socket,
        config: GatewayConfig,
        keys: Keys | None,
        poll_s: float,
        ended: str = "",
    ) -> None:
        """Serve, and read the channel every `poll_s` seconds, until a signal comes.

        Args:
            listening: the API's port.
            config: of the gateway.
            keys: of the API.
            poll_s: seconds between two checks of the channel.
            ended: how the agent before this one ended, as a clause; "": not known.

        Raises:
            StepFailedError: the gateway ended by itself.
        """
        from forge.device.gateway.app import create_app
        from forge.device.gateway.tracing import TracingMiddleware
        from forge.device.gateway.triton_backend import TritonBackend

        monitor = self.operation.monitor
        self.metrics.collect_from(self.gauges)
        app = create_app(
            self.upstream, TritonBackend(), self.describe, monitor.limit, config, keys,
            self.metrics, energy=self.energy,
        )  # fmt: skip
        traced = TracingMiddleware(app, self.tracer)
        with monitor.running(), self._tracing(), serve_in_background(listening, traced):
            _log.info("listening on %s", _url(config, listening))
            self.reporter.checked(self.agent.channel_check)
            with self.reporter.running(self.activity):
                self._loop(poll_s, ended)

    def _loop(self, poll_s: float, ended: str) -> None:
        self._try(functools.partial(self.agent.start, ended))
        while True:
            if self._try(self.agent.update):
                self.errors.clear()
            self._try(self.operation.refresh)
            # Jitter spreads a fleet that was switched on at the same moment.
            pause = poll_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no key
            # A driver that is not ready yet is asked again before that.
            self._wait(min(pause, self.operation.watch.retry_s or pause))

    @contextlib.contextmanager
    def _tracing(self) -> Iterator[None]:
        """Send the last spans after the body."""
        try:
            yield
        finally:
            if self.tracer:
                self.tracer.close()

    def describe(self) -> HardwareReport:
        """Return the document of /v1/hardware."""
        serving, _ = self.upstream.get()
        condition = self.operation.power(), self.operation.heat()
        journal, check = self.agent.journal, self.agent.channel_check
        return HardwareReport.of(self.operation.watch.current(), journal, check, serving, condition)

    def activity(self) -> AgentActivity:
        """Return what the agent does now, for `forge device status`."""
        serving, refuses = self.upstream.get()
        return AgentActivity(
            serving=serving.slot if serving else None,
            refuses="" if serving else refuses,
            fetch=self.agent.fetching,
            start=self.agent.starting,
        )

    def gauges(self) -> tuple[Sample, ...]:
        """Return what /metrics shows of the device."""
        uptime = time.monotonic() - self.began
        return (
            *device_samples(self.agent.journal, self.upstream, uptime),
            *heat_samples(self.operation.heat()),
            *power_samples(self.operation.power()),
            *energy_samples(self.energy.report()),
            *channel_samples(self.agent.channel_check),
            *contact_samples(self.agent.contact, self.agent.journal, timestamp(datetime.now(UTC))),
            *weights_samples(self.agent.weights),
            *progress_samples(self.agent.fetching, self.agent.starting),
            *expiry_samples(self.home.tuf),
            *triton_samples(self.upstream),
        )

    def _try(self, work: Callable[[], None]) -> bool:
        """Log an error of the work, and continue; return whether there was none.

        This is the outermost call of one check of the channel. A bug in Forge, or in a library,
        must not end what serves: its traceback is logged, and the next check tries again. An error
        that recurs at each check is logged once an hour.
        """
        try:
            work()
        except (ForgeError, OSError) as error:
            self.errors.error(str(error))
        except Exception:  # noqa: BLE001
            _log.exception("a bug in Forge, please report it:")
        else:
            return True
        return False

    def _wait(self, seconds: float) -> None:
        """Run the agent's loop until the next check of the channel is due."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            check_signals()
            if not self.agent.busy and self._handle_request():
                return
            self._try(functools.partial(self.agent.turn, min(left, _TURN_S)))

    def _handle_request(self) -> bool:
        """Carry out an operator's request; return whether the channel is to be read now."""
        try:
            request = handle_pending(self.home, self.agent)
        except (ForgeError, OSError) as error:
            self.errors.error(str(error))
            return False
        return request is not None and request.what == "release"


def run(  # noqa: PLR0913 - the options of one command
    state: Path,
    *,
    once: bool = False,
    profile: str | None = None,
    gpu: str | None = None,
    gateway_config: GatewayConfig | None = None,
    poll_s: float = 60.0,
    events: EventListener | None = None,
    schedule: ReadingSchedule | None = None,
) -> None:
    """Run the device agent until SIGTERM or SIGINT; with `once`, until the channel is installed.

    It logs to the loggers below `forge.device`.

    Args:
        state: a provisioned state directory.
        once: read the channel once, install, probe, stop serving and return; opens no port.
        profile: a profile named by hand; overrides the provisioned one.
        gpu: a GPU named by hand, by UUID or number; overrides the provisioned one.
        gateway_config: address, port and API keys of the gateway; by default this machine only.
        poll_s: seconds between two checks of the channel (10 % jitter, so that a fleet spreads).
        events: gets every event, as the history does.
        schedule: when and how fast the files of the slots are read in the background.

    Raises:
        UsageError: another agent runs here, the port is taken, or the API would be open without
            keys.
        ConfigurationError: the folder is not set up or cannot be written; the API keys are wrong.
        RolledBackError, FitError, TrustError, StoreError: with `once` only; otherwise the agent
            logs it, keeps serving what it has, and tries again.
    """
    home, config = StateDirectory(state), gateway_config or GatewayConfig()
    keys = None if once else config.keys()
    allow_many()
    with (
        home.locked(),
        stop_on_signals(),
        recorded(home.path) as ended,
        contextlib.ExitStack() as opened,
    ):
        settings, root_bytes = _settings(home)
        home.clean()
        opened.enter_context(log_files.kept(home.logs))
        _contain()
        if gpu is None and isinstance(settings, DeviceSettings):
            gpu = settings.gpu
        watch, metrics = HardwareWatch(), Metrics()
        notify = _notifier(home, metrics, events)
        decisions = DetectionLog(home.path, notify, lambda: timestamp(datetime.now(UTC)))
        updater = Updater(home, settings, root_bytes, watch, profile, gpu, decisions.note)
        energy = EnergyAccount(partial(metrics.observe, "forge_device_request_energy_joules"))
        operation = _operating_point(home, watch, gpu, energy)
        if once:
            _run_once(home, updater, operation, notify, ended)
        else:
            with _listening(config) as listening:
                service = _service(
                    home, updater, operation, notify, metrics, energy, config,
                    listening=listening, schedule=schedule or ReadingSchedule(),
                )  # fmt: skip
                with _stopping(service.agent):
                    service.run(listening, config, keys, poll_s, ended)


def _run_once(
    home: StateDirectory,
    updater: Updater,
    operation: OperatingPoint,
    notify: EventListener,
    ended: str,
) -> None:
    agent = Agent(
        home, updater, Upstream(),
        runtime=partial(_runtime, operation.watch), serves=False, notify=notify,
        configure=operation.configure, environment=operation.environment,
    )  # fmt: skip
    with _stopping(agent), _recorded(home, agent, notify):
        agent.start(ended)
        if not handle_pending(home, agent):
            agent.update()


@contextlib.contextmanager
def _recorded(home: StateDirectory, agent: Agent, notify: EventListener) -> Iterator[None]:
    """Leave the result of the body in the status, and its failure in the history too.

    No agent runs afterwards that could be asked.
    """
    at = timestamp(datetime.now(UTC))
    try:
        yield
    except ForgeError as error:
        found = agent.channel_check or ChannelCheck(at=at)
        _write_once(home, found.model_copy(update={"at": at, "error": str(error)}))
        known = isinstance(error, RolledBackError) or agent.contact.error == str(error)
        if not known:  # the state machine has not recorded it, nor the check of the channel
            notify(DeviceEvent(at=at, event="check-failed", reason=str(error)))
        raise
    if agent.channel_check:
        _write_once(home, agent.channel_check)


def _write_once(home: StateDirectory, check: ChannelCheck) -> None:
    with contextlib.suppress(OSError):  # a full disk; the command itself prints the error
        write_once(home, check)


def _service(  # noqa: PLR0913 - the parts of one device
    home: StateDirectory,
    updater: Updater,
    operation: OperatingPoint,
    notify: EventListener,
    metrics: Metrics,
    energy: EnergyAccount,
    config: GatewayConfig,
    *,
    listening: socket.socket,
    schedule: ReadingSchedule,
) -> Service:
    upstream, started = Upstream(), Beginning(lambda: timestamp(datetime.now(UTC)))
    reporter = StatusReporter(
        home, partial(_describe, operation.watch, _url(config, listening), started)
    )
    agent = Agent(
        home, updater, upstream,
        runtime=partial(_runtime, operation.watch), notify=notify,
        configure=operation.configure, environment=operation.environment,
        drain_s=config.limit_s + _LAST_WORDS_S,
        request_pending=functools.partial(pending, home), checked=reporter.checked,
        schedule=schedule,
    )  # fmt: skip
    tracer = tracer_of(os.environ)
    return Service(home, agent, upstream, operation, metrics, reporter, tracer, energy)


@contextlib.contextmanager
def _stopping(agent: Agent) -> Iterator[None]:
    """Stop the agent after the body, which a signal ends."""
    try:
        yield
    except StopAskedError:
        _log.info("stopping")
    finally:
        with no_signals():
            agent.stop()


@contextlib.contextmanager
def _listening(config: GatewayConfig) -> Iterator[socket.socket]:
    """Open the API's port before anything is started. Raises UsageError if it is taken."""
    with listen(config.host, config.port) as listening:
        yield listening


def _url(config: GatewayConfig, listening: socket.socket) -> str:
    shown = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{shown}:{listening.getsockname()[1]}"


def _operating_point(
    home: StateDirectory, watch: HardwareWatch, gpu: str | None, energy: EnergyAccount
) -> OperatingPoint:
    monitor = ThermalMonitor(ConcurrencyLimit(), on_power=energy.sample)
    return OperatingPoint(home, PowerControl(), monitor, watch, gpu)


def _runtime(watch: HardwareWatch) -> dict[str, str]:
    """An engine compiled here is bound to the libraries and to the release of the board."""
    hardware = watch.current()
    return hardware.runtime | ({"l4t": hardware.l4t} if hardware.l4t else {})


def _settings(home: StateDirectory) -> tuple[DeviceSettings | ForgeError, bytes]:
    """Read the settings; or return why that fails, on a device that can serve all the same."""
    try:
        return read_settings(home.path)
    except ForgeError as error:
        if home.journal().active is None:
            raise
        return error, b""


def _describe(
    watch: HardwareWatch, url: str, started: Beginning, check: ChannelCheck | None
) -> AgentReport:
    hardware = watch.current()
    return AgentReport(
        pid=os.getpid(), url=url, started=started.at, hardware=hardware, look=check,
        containment=_containment(),
    )  # fmt: skip


def _notifier(
    home: StateDirectory, metrics: Metrics, events: EventListener | None
) -> EventListener:
    """Pass an event to all listeners; a disk or pipe that fails must not end what serves."""
    lock = threading.Lock()
    declare_events(metrics)
    listeners: list[EventListener] = [partial(count_event, metrics), History(home.path).append]
    listeners += [events] if events else []

    def notify(happened: DeviceEvent) -> None:
        with lock:  # a repair is reported by the thread that did it
            for listener in listeners:
                try:
                    listener(happened)
                except OSError as error:
                    text = "the event %r could not be written: %s"
                    _log.error(text, happened.event, error)

    return notify


def _containment() -> Containment:
    """Return what contains the model server; nothing, with the reason, while that is unknown."""
    try:
        return containment.available()
    except ContainmentUnknownError as error:
        return Containment().without(*containment.MECHANISMS, reason=f"unknown: {error.why}")


def _contain() -> None:
    """Log what contains the model server, and hide this agent's variables and memory."""
    found = _containment()
    _log.info("the model server is contained: %s", ", ".join(found.in_force) or "not at all")
    for mechanism, why in found.missing.items():
        _log.warning("the model server is not contained: %s: %s", mechanism, why)
    containment.hide_from_others()


def allow_many() -> int:
    """Raise the soft limit of open files towards the hard one; return what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    wanted = _MANY if hard == infinite else min(_MANY, hard)
    if soft == infinite or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
