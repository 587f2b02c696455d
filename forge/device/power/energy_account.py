"""The energy of a device and of its requests: filled by the heat's thread and by the gateway.

The readings are those of the look that reads the temperatures, so that nothing is asked twice and
no process is started for the energy alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forge.device.power.energy_shares import EnergyShares, EnergyTicket
from forge.energy.power_reading import NO_READING, PowerReading

__all__ = ["EnergyAccount", "EnergyReport"]


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """The energy at one time.

    Attributes:
        power: the last reading.
        joules: since the agent started, by source.
        serving_joules: the part of it while at least one request ran.
        unmeasured: requests that ended and whose energy is not known.
    """

    power: PowerReading = NO_READING
    joules: Mapping[str, float] = field(default_factory=dict)
    serving_joules: Mapping[str, float] = field(default_factory=dict)
    unmeasured: int = 0


class EnergyAccount:
    """The energy of one device; safe between threads.

    Args:
        observe: gets the energy in J of each request that ended, at the next reading.
        clock: monotonic, s.
    """

    def __init__(
        self,
        observe: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self._clock = clock
        self._lock = threading.Lock()
        self._shares = EnergyShares()
        self._power = NO_READING

    def begin(self) -> EnergyTicket:
        """Count one more request in the model; `end` it."""
        with self._lock:
            return self._shares.begin(self._clock())

    def end(self, ticket: EnergyTicket) -> None:
        """Count the end of a request."""
        with self._lock:
            self._shares.end(ticket, self._clock())

    def sample(self, power: PowerReading) -> None:
        """Settle the time since the last reading."""
        with self._lock:
            ended = self._shares.sample(self._clock(), power)
            self._power = power
        if self._observe is not None:
            for joules in ended:
                self._observe(joules)

    def report(self) -> EnergyReport:
        """Return the energy now; may be called from any thread."""
        with self._lock:
            shares = self._shares
            return EnergyReport(
                power=self._power,
                joules=dict(shares.joules),
                serving_joules=dict(shares.serving_joules),
                unmeasured=shares.unmeasured,
            )
