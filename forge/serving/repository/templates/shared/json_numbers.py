# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Numbers within bounds as expressions of a grammar. Pure.

Digits are bounded, or a number might never end: 15 digits are what every double keeps, so that two
numbers which differ in text differ in value too.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import floor

DIGITS = 15  # before the point where no bound asks for more, and in all of a number that has bounds
MAX_DIGITS = 30  # of a bound
FRACTION = 12  # digits after the point of a number that has bounds
ANY_NUMBER = '"-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] ("+" | "-")? [0-9]{1,2})?'


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds.

    Attributes:
        low: the lower bound; None if there is none.
        high: the upper bound.
        low_open: whether the lower bound itself is left out.
        high_open: the same of the upper one.
    """

    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False

    def above(self, bound: Decimal, *, is_open: bool) -> Interval:
        """Return the part above a bound."""
        if self.low is not None and (bound, is_open) <= (self.low, self.low_open):
            return self
        return Interval(bound, self.high, is_open, self.high_open)

    def below(self, bound: Decimal, *, is_open: bool) -> Interval:
        """Return the part below a bound."""
        mirrored = self.mirrored().above(-bound, is_open=is_open)
        return mirrored.mirrored()

    def mirrored(self) -> Interval:
        """Return the negative numbers of these."""
        low = None if self.high is None else -self.high
        high = None if self.low is None else -self.low
        return Interval(low, high, self.high_open, self.low_open)

    @property
    def empty(self) -> bool:
        """Whether no number is inside."""
        if self.low is None or self.high is None:
            return False
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def has(self, number: Decimal) -> bool:
        """Return whether a number is inside."""
        one = Interval(number, number)
        return not self.meet(one).empty

    def meet(self, other: Interval) -> Interval:
        """Return the numbers that are in both."""
        found = self
        if other.low is not None:
            found = found.above(other.low, is_open=other.low_open)
        if other.high is not None:
            found = found.below(other.high, is_open=other.high_open)
        return found

    def bounded(self) -> Interval:
        """Return the numbers with at most DIGITS digits before the point, or as many as a bound."""
        most = Decimal(10**DIGITS - 1)
        known = [abs(one) for one in (self.low, self.high) if one is not None]
        if known and max(known) > most:
            most = Decimal(10 ** (len(str(floor(min(max(known), Decimal(10**MAX_DIGITS))))) + 1))
        return self.meet(Interval(-most, most))

    def integers(self) -> tuple[int, int]:
        """Return the lowest and the highest integer inside of a bounded interval."""
        low, high = -floor(-self.low), floor(self.high)
        return (
            low + (self.low_open and low == self.low),
            high - (self.high_open and high == self.high),
        )


def integer(interval: Interval) -> str | None:
    """Return the integers of an interval; None if there are none."""
    low, high = interval.bounded().integers()
    parts = []
    if low < 0:
        negative = _natural(max(1, -high), -low)
        parts += [f'"-" ({negative})'] if negative else []
    positive = _natural(max(0, low), high)
    parts += [positive] if positive else []
    return " | ".join(parts) or None


def number(interval: Interval) -> str | None:
    """Return the numbers of an interval; None if there are none."""
    if interval.low is None and interval.high is None:
        return ANY_NUMBER
    if interval.empty:
        return None
    known = interval.bounded()
    parts = []
    negative = known.mirrored().above(Decimal(0), is_open=True)
    if not negative.empty:
        parts.append(_minus(_positive(negative)))
    positive = known.above(Decimal(0), is_open=False)
    if not positive.empty:
        parts.append(_positive(positive))
    return " | ".join(one for one in parts if one) or None


def multiples(interval: Interval, steps: tuple[Decimal, ...], most: int) -> list[Decimal] | None:
    """Return the multiples of all steps in an interval; None if they are more than `most`."""
    if interval.low is None or interval.high is None:
        return None
    step = max(steps)
    first, last = -floor(-interval.low / step), floor(interval.high / step)
    if last - first >= most:
        return None
    found = (step * count for count in range(first, last + 1))
    return [one for one in found if interval.has(one) and is_multiple(one, steps)]


def is_multiple(number: Decimal, steps: tuple[Decimal, ...]) -> bool:
    """Return whether a number is a multiple of each step, for decimals and for doubles."""
    return all(number % step == 0 and (float(number) / float(step)).is_integer() for step in steps)


def _minus(expression: str | None) -> str | None:
    return f'"-" ({expression})' if expression else None


def _natural(low: int, high: int) -> str | None:
    """Return the integers from low to high, which are not negative."""
    parts = []
    while low <= high:
        digits = len(str(low))
        if low in (1, 10 ** (digits - 1)) and high >= 10**digits - 1:  # every number of a length
            most = len(str(high + 1)) - 1
            parts.append(_join("[1-9]", _digits(digits - 1, most - 1)))
            low = 10**most
        else:
            last = min(high, 10**digits - 1)
            parts.append(_between(str(low), str(last)))
            low = last + 1
    return " | ".join(parts) or None


def _between(low: str, high: str) -> str:
    """Return the texts of as many digits as both have, which are between them."""
    if not low:
        return '""'
    if low.strip("0") == "" and high.strip("9") == "":
        return _digits(len(low), len(low))
    first, last, rest = int(low[0]), int(high[0]), len(low) - 1
    if first == last:
        return _join(_range(first, last), _between(low[1:], high[1:]))
    parts = []
    if low[1:].strip("0"):
        parts.append(_join(_range(first, first), _between(low[1:], "9" * rest)))
        first += 1
    if high[1:].strip("9"):
        parts.append(_join(_range(last, last), _between("0" * rest, high[1:])))
        last -= 1
    if first <= last:
        parts.insert(len(parts) // 2, _join(_range(first, last), _digits(rest, rest)))
    return parts[0] if len(parts) == 1 else f"({' | '.join(parts)})"


def _range(first: int, last: int) -> str:
    return f'"{first}"' if first == last else f"[{first}-{last}]"


def _digits(least: int, most: int) -> str:
    if most <= 0:
        return '""'
    return f"[0-9]{{{least},{most}}}" if least != most else "[0-9]" + f"{{{most}}}" * (most > 1)


def _join(*parts: str) -> str:
    return " ".join(one for one in parts if one != '""') or '""'


def _positive(interval: Interval) -> str | None:
    """Return the numbers of a bounded interval that begins at 0 or above."""
    low, high = interval.low, interval.high
    first, last = floor(low), floor(high)
    least_most = _most(first) if interval.low_open else FRACTION
    most = _most(last) if interval.high_open else FRACTION
    lower = _Fraction(_decimals(low), interval.low_open)
    upper = _Fraction(_decimals(high), interval.high_open)
    if first == last:
        return _with(str(first), _fraction(lower, upper, min(least_most, most)))
    parts = [_with(str(first), _fraction(lower, None, min(least_most, most)))]
    between = _natural(first + 1, last - 1)
    parts += [_with(between, _fraction(None, None, most))] if between else []
    parts.append(_with(str(last), _fraction(None, upper, most)))
    return " | ".join(one for one in parts if one) or None


def _most(whole: int) -> int:
    """Return how many digits after the point keep a double apart from an open bound."""
    return max(0, min(FRACTION, DIGITS - len(str(whole))))


def _with(whole: str, fraction: str | None) -> str | None:
    if fraction is None:
        return None
    text = f'"{whole}"' if whole.isdigit() else f"({whole})"
    return _join(text, fraction)


@dataclass(frozen=True)
class _Fraction:
    """A bound of the digits after the point."""

    digits: str
    is_open: bool

    def rest(self) -> _Fraction:
        return _Fraction(self.digits[1:], self.is_open)

    @property
    def first(self) -> int:
        return int(self.digits[:1] or 0)


def _decimals(bound: Decimal) -> str:
    return f"{bound % 1:f}".partition(".")[2].rstrip("0")


def _fraction(low: _Fraction | None, high: _Fraction | None, most: int) -> str | None:
    """Return point and digits, which may be missing; None if no fraction is between the bounds."""
    digits = _after(low, high, most)
    without = _may_end(low, high)
    if digits is None:
        return '""' if without else None
    return f'("." {digits})' + "?" * without


def _may_end(low: _Fraction | None, high: _Fraction | None) -> bool:
    """Return whether zeros, which are not written, are between the bounds."""
    above = low is None or (not low.digits and not low.is_open)
    return above and (high is None or bool(high.digits) or not high.is_open)


def _after(low: _Fraction | None, high: _Fraction | None, most: int) -> str | None:
    """Return one digit or more; None if there are none."""
    if low is not None and not low.digits and not low.is_open:
        low = None
    if most == 0 or (high is not None and not high.digits):
        return None
    if low is None and high is None:
        return _digits(1, most)
    first, last = (low.first if low else 0), (high.first if high else 9)
    if first == last:
        return _tight(first, low and low.rest(), high and high.rest(), most)
    parts = []
    if low is not None:
        parts.append(_tight(first, low.rest(), None, most))
        first += 1
    if high is not None:
        parts.append(_tight(last, None, high.rest(), most))
        last -= 1
    if first <= last:
        parts.append(_join(_range(first, last), _digits(0, most - 1)))
    found = [one for one in parts if one]
    return f"({' | '.join(found)})" if found else None


def _tight(digit: int, low: _Fraction | None, high: _Fraction | None, most: int) -> str | None:
    """Return a digit that is a bound's own, and what may follow it."""
    following = _after(low, high, most - 1)
    ends = _may_end(low, high)
    if following is None:
        return f'"{digit}"' if ends else None
    return _join(f'"{digit}"', f"({following})?" if ends else following)
