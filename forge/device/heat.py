"""The governor's shell: a thread that reads the sensors and writes the limit the gateway obeys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device import governor
from forge.device.governor import Bounds, State
from forge.device.hardware import Kind
from forge.device.limit import Limit, Set
from forge.device.thermal import Sensor, Temperatures, read
from forge.profiles import Thermal

__all__ = ["HeatGuard", "HeatReport"]

_PERIOD_S: Final = 2.0
_MAX_PAUSE_S: Final = 300.0
_JOIN_S: Final = 15.0  # a look may be waiting for a hanging nvidia-smi


class HeatReport(BaseModel):
    """Heat and load at one moment, for /v1/hardware and for metrics.

    Attributes:
        limit: requests that may be in Triton at once.
        reason: why that many.
        most: what the bundle decodes together; None while no bundle names temperatures.
        floor: never fewer than this.
        throttle_c: of the profile.
        critical_c: of the profile.
        celsius: the hottest decisive sensor.
        sensors: decisive ones.
        other_sensors: those that are only shown.
        silent: zones that could not be read.
        problem: why nvidia-smi gave none.
        lost_readings: looks that brought no temperature, since the start.
        lowered: how often the limit fell since the start.
        raised: how often it rose.
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
    decisions: tuple[Set, ...]


class HeatGuard:
    """One device's.

    Args:
        limit: written here and nowhere else.
        kind: what the machine is.
        look: reads every sensor once; the machine's own by default.
        period_s: between two looks.
        clock: monotonic, s.
    """

    def __init__(
        self,
        limit: Limit,
        kind: Kind,
        *,
        look: Callable[[], Temperatures] | None = None,
        period_s: float = _PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._kind = kind
        self._look = look or (lambda: read(kind))
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._bounds: Bounds | None = None
        self._state: State | None = None
        self._seen = Temperatures()
        self._lost = 0
        self._wake = threading.Event()
        self._ending = False

    def govern(self, thermal: Thermal | None, most: int) -> None:
        """From now on keep to these temperatures.

        Args:
            thermal: of the bundle that is about to serve; None: it names none, heat limits nothing.
            most: requests it decodes together.
        """
        with self._lock:
            self._bounds = _bounds(thermal, most, self._kind) if thermal else None
            if self._bounds is None:
                self.limit.set(most, "the bundle names no temperatures")
            else:
                self._state = governor.begin(self._bounds, self._state)
                self.limit.set(self._state.limit, "the bundle is being activated")
        self._wake.set()

    def look(self) -> Temperatures:
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

    def report(self) -> HeatReport:
        """What was seen and decided last."""
        with self._lock:
            bounds, seen, lost = self._bounds, self._seen, self._lost
            limit, reason = self.limit.get()
        lowered, raised = self.limit.moves
        return HeatReport(
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
        """Look every few seconds, in a thread, for the body."""
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
        try:
            while not self._ending:
                self._wake.clear()
                # Each nvidia-smi that hangs in the driver stays behind: ask ever more seldom.
                pause = min(_MAX_PAUSE_S, 2 * pause) if self.look().problem else self._period_s
                self._wake.wait(pause)
        finally:
            if not self._ending:
                self._abandon()

    def _abandon(self) -> None:
        """The thread dies of a mistake: nobody will ever lower the limit again, so do it now."""
        with self._lock:
            if self._bounds is not None:
                limit = min(self.limit.current, self._bounds.cautious)
                self.limit.set(limit, "the governor ended by a mistake in Forge")


def _bounds(thermal: Thermal, most: int, kind: Kind) -> Bounds:
    return Bounds(
        most=most,
        floor=thermal.batch_floor,
        throttle_c=thermal.throttle_c,
        critical_c=thermal.critical_c,
        sensor_expected=kind != "cpu",  # a virtual machine has none
    )
