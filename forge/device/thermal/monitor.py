"""Run the governor: a thread that reads the sensors and sets the gateway's limit."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device.hardware.compute_target import CPU, ComputeTarget
from forge.device.shared.concurrency import ConcurrencyLimit, LimitChange
from forge.device.thermal import governor
from forge.device.thermal.governor import GovernorBounds, GovernorState
from forge.device.thermal.sensors import Sensor, Temperatures, read
from forge.profiles import ThermalSection

__all__ = ["ThermalMonitor", "ThermalReport"]

_log = logging.getLogger(__name__)

_PERIOD_S: Final = 2.0
_MAX_PAUSE_S: Final = 300.0
_HANGS: Final = "no answer within"
_JOIN_S: Final = 15.0  # a reading may be waiting for a hanging nvidia-smi


class ThermalReport(BaseModel):
    """Temperatures and the limit at one time, for /v1/hardware and for metrics.

    Attributes:
        limit: requests that may be in Triton at once.
        reason: why the limit has this value.
        most: what the bundle decodes together; None while no bundle sets temperatures.
        floor: the lowest limit.
        throttle_c: of the profile.
        critical_c: of the profile.
        celsius: the hottest decisive sensor.
        sensors: decisive ones.
        other_sensors: those that are only shown.
        silent: zones that could not be read.
        problem: why nvidia-smi failed, or what failed in the last look.
        lost_readings: readings without a temperature, since the start.
        lowered: how often the limit was lowered since the start.
        raised: how often it was raised.
        decisions: the last changes, oldest first.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int
    reason: str
    most: int | None
    floor: int | None
    throttle_c: float | None
    critical_c: float | None
    celsius: float | None
    sensors: tuple[Sensor, ...]
    other_sensors: tuple[Sensor, ...]
    silent: tuple[str, ...]
    problem: str
    lost_readings: int
    lowered: int
    raised: int
    decisions: tuple[LimitChange, ...]


class ThermalMonitor:
    """The thermal monitor of a device.

    Args:
        limit: set only here.
        read_sensors: reads every sensor of what serves once; default: those of this machine.
        period_s: between two readings.
        clock: monotonic, s.
    """

    def __init__(
        self,
        limit: ConcurrencyLimit,
        *,
        read_sensors: Callable[[ComputeTarget], Temperatures] = read,
        period_s: float = _PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._read_sensors = read_sensors
        self._target = CPU
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._bounds: GovernorBounds | None = None
        self._state: GovernorState | None = None
        self._seen = Temperatures()
        self._lost = 0
        self._wake = threading.Event()
        self._ending = False

    def govern(
        self, thermal: ThermalSection | None, most: int, target: ComputeTarget = CPU
    ) -> None:
        """Use these temperatures from now on.

        Args:
            thermal: of the bundle that is about to serve; None: it sets none, so no limit applies.
            most: requests it decodes together.
            target: what it computes on: whose sensors decide.
        """
        with self._lock:
            self._target = target
            self._bounds = _bounds(thermal, most, target) if thermal else None
            if self._bounds is None:
                self.limit.set(most, "the bundle sets no temperatures", most)
            else:
                self._state = governor.begin(self._bounds, self._state)
                self.limit.set(self._state.limit, "the bundle is being activated", most)
        self._wake.set()

    def check(self) -> Temperatures:
        """Read the sensors once and set the limit."""
        seen = self._look()
        reading = seen.hottest_c
        with self._lock:
            self._seen = seen
            self._lost += reading is None
            if self._bounds is not None and self._state is not None:
                self._state, decision = governor.step(
                    self._bounds, self._state, reading, self._clock()
                )
                self.limit.set(decision.concurrency, decision.reason)
        return seen

    def _look(self) -> Temperatures:
        """Read the sensors; a mistake in one look is a lost reading, and the watch goes on."""
        with self._lock:
            target = self._target
        try:
            return self._read_sensors(target)
        except Exception as error:  # noqa: BLE001 - nothing else guards against heat
            _log.exception("a bug in Forge, please report it; the sensors are read again:")
            return Temperatures(problem=f"the sensors could not be read: {error!r}")

    def report(self) -> ThermalReport:
        """Return the last readings and decisions."""
        with self._lock:
            bounds, seen, lost = self._bounds, self._seen, self._lost
            limit, reason = self.limit.get()
        lowered, raised = self.limit.moves
        return ThermalReport(
            limit=limit,
            reason=reason,
            most=bounds.most if bounds else None,
            floor=bounds.least if bounds else None,
            throttle_c=bounds.throttle_c if bounds else None,
            critical_c=bounds.critical_c if bounds else None,
            celsius=seen.hottest_c,
            sensors=seen.decisive,
            other_sensors=seen.others,
            silent=seen.silent,
            problem=seen.problem,
            lost_readings=lost,
            lowered=lowered,
            raised=raised,
            decisions=self.limit.history,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Check every few seconds, in a thread, during the body."""
        thread = threading.Thread(target=self._run, name="heat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ending = True
            self._wake.set()
            thread.join(_JOIN_S)

    def _run(self) -> None:
        pause = self._period_s
        while not self._ending:
            self._wake.clear()
            # Each nvidia-smi that hangs in the driver leaves a process: back off.
            hangs = _HANGS in self._try()
            pause = min(_MAX_PAUSE_S, 2 * pause) if hangs else self._period_s
            self._wake.wait(pause)

    def _try(self) -> str:
        """Check once and return the problem; no error ends the thread, which alone guards."""
        try:
            return self.check().problem
        except Exception as error:  # noqa: BLE001
            _log.exception("a bug in Forge, please report it; the load is held back:")
            with self._lock:
                if self._bounds is not None:
                    limit = min(self.limit.current, self._bounds.cautious)
                    self.limit.set(limit, f"the governor failed because of a bug in Forge: {error}")
            return ""


def _bounds(thermal: ThermalSection, most: int, target: ComputeTarget) -> GovernorBounds:
    return GovernorBounds(
        most=most,
        floor=thermal.batch_floor,
        throttle_c=thermal.throttle_c,
        critical_c=thermal.critical_c,
        # A virtual machine has none; a GPU and a Jetson always have one.
        sensor_expected=target.on != "cpu" or target.tegra,
    )
