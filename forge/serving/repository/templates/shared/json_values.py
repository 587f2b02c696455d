# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Whether a value has a schema, and whether no value has two of them. Pure.

Values of `enum` and `const` are compared with the other keywords of their place; branches of
`oneOf` must exclude each other.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from json_facts import NUMBERS, Facts, Place, Places, canonical
from json_numbers import is_multiple
from json_patterns import matches
from json_schema import Schema

_DEPTH = 4  # to which schemas are compared


def holds(schema: Schema, places: Places, value: Any) -> bool:
    """Return whether a value has all schemas of a place."""
    return all(_holds(schema, place, value) for place in places)


def _holds(schema: Schema, place: Place, value: Any) -> bool:
    found = schema.expand((place,))
    return any(
        _agrees(schema, facts, value)
        and not any(_holds(schema, rival, value) for rival in facts.rivals)
        for facts in found
    )


def _agrees(schema: Schema, facts: Facts, value: Any) -> bool:
    kind = kind_of(value)
    if kind not in facts.allowed():
        return False
    if facts.values is not None and canonical(value) not in facts.values:
        return False
    return _CHECKS[kind](schema, facts, value)


def kind_of(value: Any) -> str:
    """Return the type of a value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "integer" if isinstance(value, int) or value.is_integer() else "fraction"
    return _KINDS[type(value)]


def _number(_: Schema, facts: Facts, value: float) -> bool:
    number = Decimal(repr(value))
    return facts.interval.has(number) and is_multiple(number, facts.steps)


def _string(_: Schema, facts: Facts, value: str) -> bool:
    most = facts.most_length
    sized = facts.least_length <= len(value) and (most is None or len(value) <= most)
    return sized and all(matches(node, value) for node in facts.patterns.values())


def _array(schema: Schema, facts: Facts, value: list[Any]) -> bool:
    most = facts.most_items
    if len(value) < facts.least_items or (most is not None and len(value) > most):
        return False
    if facts.unique and len({canonical(one) for one in value}) < len(value):
        return False
    return all(holds(schema, facts.item(index), one) for index, one in enumerate(value))


def _object(schema: Schema, facts: Facts, value: dict[str, Any]) -> bool:
    most = facts.most_properties
    if len(value) < facts.least_properties or (most is not None and len(value) > most):
        return False
    if not facts.required.keys() <= value.keys():
        return False
    return all(holds(schema, facts.property(name), one) for name, one in value.items())


def _always(_: Schema, __: Facts, ___: Any) -> bool:
    return True


_KINDS = {type(None): "null", bool: "boolean", str: "string", list: "array", dict: "object"}
_CHECKS = {
    "null": _always, "boolean": _always, "integer": _number, "fraction": _number,
    "string": _string, "array": _array, "object": _object,
}  # fmt: skip


def excludes(schema: Schema, facts: Facts, place: Place) -> bool:
    """Return whether no answer of an alternative has a schema, as far as that can be seen."""
    return _excludes(schema, facts, (place,), _DEPTH)


def _excludes(schema: Schema, facts: Facts, places: Places, depth: int) -> bool:
    others = schema.expand(places)
    return all(_apart(schema, facts, other, depth) for other in others)


def _apart(schema: Schema, one: Facts, other: Facts, depth: int) -> bool:
    common = one.answered & other.allowed()
    if other.values is not None:
        # The grammar of an alternative has its own keywords, and does not leave out rivals.
        return not any(
            kind_of(value) in one.answered and _agrees(schema, one, value)
            for value in other.values.values()
        )
    if one.values is not None:
        return not any(_agrees(schema, other, value) for value in one.values.values())
    if common & NUMBERS and one.interval.meet(other.interval).empty:
        common -= NUMBERS
    if "string" in common and _lengths_apart(one, other):
        common -= {"string"}
    if "array" in common and _arrays_apart(schema, one, other, depth):
        common -= {"array"}
    if "object" in common and _objects_apart(schema, one, other, depth):
        common -= {"object"}
    return not common


def _lengths_apart(one: Facts, other: Facts) -> bool:
    return _below(one.most_length, other.least_length) or _below(
        other.most_length, one.least_length
    )


def _below(most: int | None, least: int) -> bool:
    return most is not None and most < least


def _arrays_apart(schema: Schema, one: Facts, other: Facts, depth: int) -> bool:
    if _below(one.most_items, other.least_items) or _below(other.most_items, one.least_items):
        return True
    known = range(min(one.least_items, len(one.first_items) + 1))
    return any(_parts_apart(schema, one.item(at), other.item(at), depth) for at in known)


def _objects_apart(schema: Schema, one: Facts, other: Facts, depth: int) -> bool:
    """Return whether a property that one always has is wrong or missing in the other."""
    unnamed = other.required.keys() - one.properties.keys() - one.required.keys()
    free = one.says_others or not one.properties or one.least_properties > len(one.properties)
    if unnamed and not free:
        return True
    return any(
        _parts_apart(schema, one.property(name), other.property(name), depth)
        for name in one.required
    )


def _parts_apart(schema: Schema, one: Places, other: Places, depth: int) -> bool:
    if depth == 0:
        return False
    return all(_excludes(schema, facts, other, depth - 1) for facts in schema.expand(one))
