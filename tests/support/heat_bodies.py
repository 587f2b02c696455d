"""Bodies that requests heat: what a controller of the load gives, and how hot it becomes.

One thermal mass follows its heat with a time constant of a minute. The heat is by the requests
that are served together (in proportion, or saturating, as where memory is the limit) and by the
clock (c * ((1 + c) / 2) ** 2, about its frequency times its voltage squared). Most bodies have
hardware that throttles by itself, as the kernel's step_wise does with a clock of 20 states down to
half, and says so. The numbers are chosen, not measured on a board.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

__all__ = ["BODIES", "TRIP_C", "Body", "Controller", "Outcome", "Seen", "simulate"]

TRIP_C: Final = 83.0
CRITICAL_C: Final = 90.0
_REST_C: Final = 35.0
_TAU_S: Final = 60.0
_STATES: Final = 20
_SLOWEST: Final = 0.5
_PERIOD_S: Final = 2
_ABOVE_K: Final = 1.0  # the resolution of a GPU's sensor
_HOUR_S: Final = 3600


@dataclass(frozen=True)
class Seen:
    """What a controller may look at.

    Attributes:
        at: s.
        celsius: of the sensor; None: it could not be read.
        share: of the clocks that the hardware gives up; None: it does not say.
    """

    at: float
    celsius: float | None
    share: float | None


class Controller(Protocol):
    """Sets how many requests are served together; one object runs once."""

    def __call__(self, seen: Seen) -> int:
        """Return the limit after one look, each two seconds."""
        ...


@dataclass(frozen=True)
class Body:
    """One body and what is asked of it.

    Attributes:
        name: for the table.
        full_c: where full load at full clock would bring it, °C.
        most: requests that are decoded together.
        saturating: few requests heat nearly as much as many.
        guarded: its hardware throttles and says so.
        demand: requests that want to be served at a time in s; None: always as many as possible.
        sensor: what the sensor shows of a true temperature at a time.
    """

    name: str
    full_c: float
    most: int = 8
    saturating: bool = False
    guarded: bool = True
    demand: Callable[[float], int] | None = None
    sensor: Callable[[float, float], float | None] | None = None

    def heat(self, served: float, clock: float) -> float:
        """Return the temperature that this load would bring it to, °C."""
        part = served / self.most
        if self.saturating:
            part = (1 - math.exp(-3 * part)) / (1 - math.exp(-3))
        return _REST_C + (self.full_c - _REST_C) * part * clock * ((1 + clock) / 2) ** 2


@dataclass(frozen=True)
class Outcome:
    """What one controller made of one body.

    Attributes:
        service: of the tokens that were asked for, 0 to 1.
        above: share of the time more than 1 K above the trip point.
        changes: of the limit in an hour.
        clock: mean clock while requests were served: 1 / clock is what a token's time grows by.
        hottest_c: highest temperature.
    """

    service: float
    above: float
    changes: float
    clock: float
    hottest_c: float


@dataclass
class _Guard:
    """The kernel's step_wise on clocks: a state up while it gets hotter above the trip point."""

    state: int = 0
    last_c: float = _REST_C

    @property
    def share(self) -> float:
        return self.state / _STATES

    @property
    def clock(self) -> float:
        return 1 - (1 - _SLOWEST) * self.share

    def poll(self, celsius: float) -> None:
        if celsius >= TRIP_C and celsius > self.last_c:
            self.state = min(_STATES, self.state + 1)
        elif celsius < TRIP_C and celsius < self.last_c:
            self.state = max(0, self.state - 1)
        self.last_c = celsius


@dataclass
class _Sums:
    asked: float = 0.0
    served: float = 0.0
    clocked: float = 0.0
    above: int = 0
    changes: int = 0
    hottest_c: float = _REST_C
    limits: list[int] = field(default_factory=list)


def simulate(
    body: Body, controller: Controller, hours: float = 4, noise_k: float = 0.2, seed: int = 1
) -> Outcome:
    """Run a controller on a body from rest."""
    rng, guard, sums = random.Random(seed), _Guard(), _Sums()  # noqa: S311 - no key
    celsius, limit, seconds = _REST_C, body.most, int(hours * _HOUR_S)
    for at in range(seconds):
        if at % _PERIOD_S == 0:
            shown = celsius + rng.gauss(0, noise_k)
            read = body.sensor(at, shown) if body.sensor else shown
            seen = Seen(float(at), read, guard.share if body.guarded else None)
            before, limit = limit, controller(seen)
            sums.changes += limit != before
        wanted = min(body.most, body.demand(at)) if body.demand else body.most
        served = min(limit, wanted)
        celsius += (body.heat(served, guard.clock) - celsius) / _TAU_S
        if body.guarded:
            guard.poll(celsius)
        sums.asked += wanted
        sums.served += served * guard.clock
        sums.clocked += served
        sums.above += celsius > TRIP_C + _ABOVE_K
        sums.hottest_c = max(sums.hottest_c, celsius)
    return Outcome(
        service=sums.served / sums.asked,
        above=sums.above / seconds,
        changes=sums.changes / hours,
        clock=sums.served / sums.clocked,
        hottest_c=sums.hottest_c,
    )


def _bursts(at: float) -> int:
    """Ten minutes of all, ten of two."""
    return 8 if int(at) // 600 % 2 == 0 else 2


def _short_bursts(at: float) -> int:
    return 8 if int(at) % 90 < 45 else 1


def _dropouts(at: float, shown: float) -> float | None:
    """Every tenth reading is missing, and a minute in each twenty."""
    return None if int(at) // 2 % 10 == 3 or int(at) % 1200 < 60 else shown


def _stuck(at: float, shown: float) -> float | None:
    """From the first minute on, the sensor shows what it showed then."""
    return shown if at < 20 else 50.0


_LINEAR: Final = Body("linear, 95 °C", 95)
_BLIND: Final = replace(_LINEAR, guarded=False)
BODIES: Final = (
    replace(_LINEAR, name="cool, 75 °C", full_c=75),
    _LINEAR,
    replace(_LINEAR, name="linear, 120 °C", full_c=120),
    replace(_LINEAR, name="linear, 95 °C, batch 2", most=2),
    replace(_LINEAR, name="linear, 120 °C, batch 64", full_c=120, most=64),
    replace(_LINEAR, name="saturating, 95 °C", saturating=True),
    replace(_LINEAR, name="saturating, 120 °C", saturating=True, full_c=120),
    replace(_LINEAR, name="fan failed, 200 °C", full_c=200),
    replace(_LINEAR, name="bursts, 120 °C", full_c=120, demand=_bursts),
    replace(_LINEAR, name="short bursts, 120 °C", full_c=120, demand=_short_bursts),
    replace(_LINEAR, name="dropouts, 95 °C", sensor=_dropouts),
    replace(_LINEAR, name="stuck sensor, 120 °C", full_c=120, sensor=_stuck),
    replace(_BLIND, name="says nothing, linear, 95 °C"),
    replace(_BLIND, name="says nothing, linear, 120 °C", full_c=120),
    replace(_BLIND, name="says nothing, batch 2, 95 °C", most=2),
    replace(_BLIND, name="says nothing, batch 64, 95 °C", most=64),
    replace(_BLIND, name="says nothing, saturating, 95 °C", saturating=True),
    replace(_BLIND, name="says nothing, bursts, 120 °C", full_c=120, demand=_bursts),
    replace(_BLIND, name="says nothing, dropouts, 95 °C", sensor=_dropouts),
    replace(_BLIND, name="says nothing, stuck sensor, 120 °C", full_c=120, sensor=_stuck),
)
