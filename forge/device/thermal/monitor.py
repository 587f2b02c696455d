"""Run the governor: a thread that reads the sensors and sets the gateway's limit."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from forge.device.hardware.compute_target import CPU, ComputeTarget
from forge.device.shared.concurrency import ConcurrencyLimit, LimitChange
from forge.device.thermal import governor
from forge.device.thermal.governor import GovernorBounds, GovernorState, HeatLook, Reading
from forge.device.thermal.sensors import Sensor, SensorReader, Temperatures
from forge.energy.power_reading import PowerReading
from forge.profiles import ThermalSection

__all__ = ["ThermalMonitor", "ThermalReport"]

_log = logging.getLogger(__name__)

_PERIOD_S: Final = 2.0
_MAX_PAUSE_S: Final = 300.0
_HANGS: Final = "no answer within"
_LEAST_SPAN_C: Final = 1.0  # between throttle_c and critical_c
_JOIN_S: Final = 15.0  # a reading may be waiting for a hanging nvidia-smi


class ThermalReport(BaseModel):
    """Temperatures and the limit at one time, for /v1/hardware and for metrics.

    Attributes:
        limit: requests that may be in Triton at once.
        reason: why the limit has this value.
        most: what the bundle decodes together; None while no bundle sets temperatures.
        floor: the lowest limit.
        throttle_c: where it throttles: of the sensor nearest to it, by the hardware or the profile.
        critical_c: from where on the limit is the floor, likewise.
        limits_of: who states throttle_c.
        throttled: whether heat lowers the clocks now; None: the hardware does not say.
        throttled_share: of the range of the clocks, 0 to 1.
        throttle_reasons: what throttles because of heat, by the hardware's names.
        power_reasons: what throttles because of power, likewise.
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
    limits_of: Literal["hardware", "profile"] | None = None
    throttled: bool | None = None
    throttled_share: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    power_reasons: tuple[str, ...] = ()
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
        on_power: gets the power of what serves that was read in the same look.
        period_s: between two readings.
        clock: monotonic, s.
    """

    def __init__(
        self,
        limit: ConcurrencyLimit,
        *,
        read_sensors: Callable[[ComputeTarget], Temperatures] | None = None,
        on_power: Callable[[PowerReading], None] | None = None,
        period_s: float = _PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._read_sensors = read_sensors or SensorReader()
        self._on_power = on_power
        self._target = CPU
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._thermal: ThermalSection | None = None
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
            if target != self._target:  # other sensors
                self._target, self._seen = target, Temperatures()
            self._thermal = thermal
            self._bounds = _bounds(thermal, most, target) if thermal else None
            if self._bounds is None or thermal is None:
                self.limit.set(most, "the bundle sets no temperatures", most)
            else:
                reading = _nearest(thermal, self._seen)
                self._state = governor.begin(self._bounds, self._state, reading)
                self.limit.set(self._state.limit, "the bundle is being activated", most)
        self._wake.set()

    def check(self) -> Temperatures:
        """Read the sensors once and set the limit."""
        seen = self._look()
        with self._lock:
            self._seen = seen
            self._lost += seen.hottest_c is None
            if self._bounds and self._state and self._thermal:
                look = HeatLook(_nearest(self._thermal, seen), seen.throttling.share)
                self._state, decision = governor.step(
                    self._bounds, self._state, look, self._clock()
                )
                self.limit.set(decision.concurrency, decision.reason)
        if self._on_power is not None:
            self._on_power(seen.power)
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
            thermal, share = self._thermal, self._seen.throttling.share
            limit, reason = self.limit.get()
        near = _limits(thermal, seen) if thermal else None
        lowered, raised = self.limit.moves
        return ThermalReport(
            limit=limit,
            reason=reason,
            most=bounds.most if bounds else None,
            floor=bounds.least if bounds else None,
            throttle_c=near.throttle_c if near else None,
            critical_c=near.critical_c if near else None,
            limits_of=_source(thermal, seen),
            throttled=None if share is None else share > 0,
            throttled_share=share,
            throttle_reasons=seen.throttling.reasons,
            power_reasons=seen.throttling.power_reasons,
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


def _nearest(thermal: ThermalSection, seen: Temperatures) -> Reading | None:
    """Return the sensor that is nearest to its throttling temperature; None: none was read."""
    readings = [_reading(thermal, sensor) for sensor in seen.decisive]
    return max(readings, key=lambda one: one.excess, default=None)


def _limits(thermal: ThermalSection, seen: Temperatures) -> Reading:
    """Return the reading that counts, or the profile's numbers before the first one."""
    numbers = Reading(math.nan, thermal.throttle_c, thermal.critical_c)
    return _nearest(thermal, seen) or numbers


def _reading(thermal: ThermalSection, sensor: Sensor) -> Reading:
    """Judge a sensor by its own limits and the profile's offsets, else by the profile's numbers."""
    throttle, critical = thermal.throttle_c, thermal.critical_c
    if sensor.critical_c is not None and thermal.critical_offset_c is not None:
        critical = sensor.critical_c + thermal.critical_offset_c
    if sensor.throttle_c is not None and thermal.throttle_offset_c is not None:
        throttle = sensor.throttle_c + thermal.throttle_offset_c
        if sensor.critical_c is None:  # the profile's number is none of this hardware
            critical = max(critical, throttle + thermal.critical_c - thermal.throttle_c)
    return Reading(sensor.celsius, min(throttle, critical - _LEAST_SPAN_C), critical)


def _source(
    thermal: ThermalSection | None, seen: Temperatures
) -> Literal["hardware", "profile"] | None:
    if thermal is None:
        return None
    near = max(seen.decisive, key=lambda sensor: _reading(thermal, sensor).excess, default=None)
    stated = near is not None and near.throttle_c is not None
    return "hardware" if stated and thermal.throttle_offset_c is not None else "profile"


def _bounds(thermal: ThermalSection, most: int, target: ComputeTarget) -> GovernorBounds:
    return GovernorBounds(
        most=most,
        floor=thermal.batch_floor,
        # A virtual machine has none; a GPU and a Jetson always have one.
        sensor_expected=target.on != "cpu" or target.tegra,
    )
