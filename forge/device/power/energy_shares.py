"""Share the energy of what serves among the requests that run at the same time. Pure.

At each moment every running request has an equal share of the power, idle power included: with n
requests at P watts each is given P/n. A request's energy is the integral of its share, so that the
energies of all requests add up to the energy of the time in which at least one ran. That is a rule
of accounting and no measurement of one request: a long prompt and a short one have the same share.

Power is sampled, so what happened since the last sample is settled with the next one: the power
between two samples is taken to be linear, or constant where the sample is the mean since the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from forge.energy.power_reading import PowerReading

__all__ = ["MAX_GAP_S", "EnergyShares", "EnergyTicket"]

MAX_GAP_S: Final = 10.0
"""A longer time without a reading has no energy, and neither have the requests that ran in it."""
_MAX_PENDING: Final = 20_000  # beginnings and ends since the last sample
_NEVER: Final = -1


@dataclass(eq=False, slots=True)
class EnergyTicket:
    """One request that runs.

    Attributes:
        share_j: of one request since the start, J, when it began.
        epoch: the time without gaps in which it began.
    """

    share_j: float = 0.0
    epoch: int = _NEVER


@dataclass(frozen=True, slots=True)
class _Change:
    at: float
    ticket: EnergyTicket
    begins: bool


@dataclass(slots=True)
class EnergyShares:
    """The account of one device. Times are those of one monotonic clock, s.

    Attributes:
        joules: energy since the start, by source.
        serving_joules: the part of it while at least one request ran.
        running: requests that run, as of the last sample.
        unmeasured: requests that ended and whose energy is not known.
    """

    joules: dict[str, float] = field(default_factory=dict)
    serving_joules: dict[str, float] = field(default_factory=dict)
    running: int = 0
    unmeasured: int = 0
    _share_j: float = 0.0
    _epoch: int = 0
    _last: tuple[float, PowerReading] | None = None
    _pending: list[_Change] = field(default_factory=list)

    def begin(self, at: float) -> EnergyTicket:
        """Count one more running request."""
        ticket = EnergyTicket()
        self._change(_Change(at, ticket, begins=True))
        return ticket

    def end(self, ticket: EnergyTicket, at: float) -> None:
        """Count one running request less."""
        self._change(_Change(at, ticket, begins=False))

    def sample(self, at: float, power: PowerReading) -> tuple[float, ...]:
        """Settle the time since the last sample; return the energy in J of requests that ended.

        A reading that is not known settles nothing: the next one that is known does, unless that is
        too late.
        """
        last, changes = self._last, self._pending
        if power.watts is None and last is not None and at - last[0] <= MAX_GAP_S:
            return ()
        self._last, self._pending = (None if power.watts is None else (at, power)), []
        if last is None or self._last is None or not _continues(last, self._last):
            self._pass_over(changes)
            return ()
        return tuple(self._settle(last, (at, power), changes))

    def _change(self, change: _Change) -> None:
        self._pending.append(change)
        if len(self._pending) >= _MAX_PENDING:  # without samples
            self._pass_over(self._pending)
            self._pending, self._last = [], None

    def _pass_over(self, changes: Sequence[_Change]) -> None:
        """Count what began and ended in a time whose energy is not known."""
        self._epoch += 1
        for change in changes:
            self.running += 1 if change.begins else -1
            self.unmeasured += not change.begins

    def _settle(
        self,
        last: tuple[float, PowerReading],
        now: tuple[float, PowerReading],
        changes: Sequence[_Change],
    ) -> list[float]:
        ended, moment = [], last[0]
        for change in changes:
            until = min(max(change.at, moment), now[0])
            self._advance(last, now, moment, until)
            moment = until
            ticket = change.ticket
            if change.begins:
                self.running += 1
                ticket.share_j, ticket.epoch = self._share_j, self._epoch
            else:
                self.running -= 1
                if ticket.epoch == self._epoch:
                    ended.append(self._share_j - ticket.share_j)
                else:
                    self.unmeasured += 1
        self._advance(last, now, moment, now[0])
        return ended

    def _advance(
        self,
        last: tuple[float, PowerReading],
        now: tuple[float, PowerReading],
        begin: float,
        end: float,
    ) -> None:
        used = (end - begin) * (_watts(last, now, begin) + _watts(last, now, end)) / 2
        source = now[1].source or ""
        self.joules[source] = self.joules.get(source, 0.0) + used
        if self.running > 0:
            self.serving_joules[source] = self.serving_joules.get(source, 0.0) + used
            self._share_j += used / self.running


def _continues(last: tuple[float, PowerReading], now: tuple[float, PowerReading]) -> bool:
    """Whether a reading follows another one of the same thing, without a gap."""
    same = (last[1].source, last[1].scope) == (now[1].source, now[1].scope)
    return same and 0 < now[0] - last[0] <= MAX_GAP_S


def _watts(last: tuple[float, PowerReading], now: tuple[float, PowerReading], at: float) -> float:
    """Return the power at a moment between two readings."""
    before, after = last[1].watts or 0.0, now[1].watts or 0.0
    if now[1].is_mean:
        return after
    return before + (after - before) * (at - last[0]) / (now[0] - last[0])
