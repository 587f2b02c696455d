"""Numbers within bounds: each text is inside, and each number inside with few digits is a text."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ebnf import Grammar
from tests.support.templates import load

numbers = load("shared", "json_numbers")
Interval = numbers.Interval
BOUNDS = st.one_of(
    st.none(),
    st.integers(-1200, 1200).map(Decimal),
    st.integers(-1200, 1200).map(lambda one: Decimal(one) / 100),
)


def grammar(expression: str) -> Grammar:
    return Grammar(f"root ::= {expression}")


@given(BOUNDS, BOUNDS, st.tuples(st.booleans(), st.booleans()), st.integers(0, 10**6))
def test_texts_are_inside_and_numbers_inside_are_texts(
    low: Decimal | None, high: Decimal | None, is_open: tuple[bool, bool], seed: int
) -> None:
    interval = Interval(low, high, *is_open)
    random_numbers = random.Random(seed)  # noqa: S311 - no key
    near = [one for one in (low, high, Decimal(0)) if one is not None]
    for find, whole in ((numbers.integer, True), (numbers.number, False)):
        found = find(interval)
        texts = grammar(found) if found else None
        for _ in range(10 if texts else 0):
            value = json.loads(texts.draw(random_numbers))  # type: ignore[union-attr]
            assert interval.has(Decimal(repr(value)))
            assert not whole or isinstance(value, int)
        for _ in range(10):
            step = Decimal(random_numbers.choice((0, 1, -1, 7, -30)))
            value = random_numbers.choice(near) + step / (1 if whole else 100)
            if interval.has(value) and (not whole or value == int(value)):
                assert texts is not None
                assert texts.accepts(f"{value.normalize():f}")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(Decimal(0), Decimal(9)), "[0-9]"),
        (Interval(Decimal(1), Decimal(99)), "[1-9] [0-9]{0,1}"),
        (Interval(Decimal(5), Decimal(5)), '"5"'),
        (Interval(Decimal(3), Decimal(2)), None),
    ],
)
def test_integers_are_short_expressions(interval: object, expected: str | None) -> None:
    assert numbers.integer(interval) == expected


def test_numbers_without_bounds_have_at_most_fifteen_digits() -> None:
    for find in (numbers.integer, numbers.number):
        texts = grammar(find(Interval()))
        assert texts.accepts("-" + "9" * 15)
        assert not texts.accepts("9" * 16)
        assert not texts.accepts("01")
    above = grammar(numbers.integer(Interval(Decimal(10**16), None)))
    assert above.accepts(str(10**16 + 3))


def test_multiples_are_listed_up_to_a_limit() -> None:
    steps = (Decimal("0.1"), Decimal("0.2"))
    assert numbers.multiples(Interval(Decimal(0), Decimal("0.5")), steps, 10) == [
        Decimal("0.0"), Decimal("0.2"), Decimal("0.4")
    ]  # fmt: skip
    assert numbers.multiples(Interval(Decimal(0), Decimal(100)), (Decimal(1),), 100) is None
    assert numbers.multiples(Interval(Decimal(0)), (Decimal(1),), 100) is None
