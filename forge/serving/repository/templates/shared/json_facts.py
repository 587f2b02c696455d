# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""What the keywords of a JSON Schema say of one place, joined; others are refused by name. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from json_numbers import MAX_DIGITS, Interval
from json_patterns import Node, parse
from json_strings import FORMATS
from turns import RequestError

TYPES = {
    "null": {"null"}, "boolean": {"boolean"}, "string": {"string"}, "array": {"array"},
    "object": {"object"}, "integer": {"integer"}, "number": {"integer", "fraction"},
}  # fmt: skip
ALL_TYPES = frozenset().union(*TYPES.values())
NUMBERS = frozenset({"integer", "fraction"})
# Formats of OpenAPI that say how a number is stored.
STORED: dict[str, tuple[str, str] | None] = {
    "float": None, "double": None,
    "int32": (str(-(2**31)), str(2**31 - 1)), "int64": (str(-(2**63)), str(2**63 - 1)),
}  # fmt: skip
ANNOTATIONS = frozenset({
    "$schema", "$comment", "$defs", "definitions", "$anchor", "$vocabulary", "title", "description",
    "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "contentEncoding",
    "contentMediaType", "contentSchema", "discriminator", "externalDocs", "xml",
})  # fmt: skip
REFUSED = frozenset({
    "not", "if", "then", "else", "contains", "minContains", "maxContains", "patternProperties",
    "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
    "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$dynamicAnchor", "$recursiveRef",
    "$recursiveAnchor",
})  # fmt: skip

# Without an entry, these demand nothing.
_EMPTY = ("patternProperties", "propertyNames", "dependentRequired", "dependentSchemas",
          "dependencies")  # fmt: skip


def refuse(pointer: str, reason: str) -> RequestError:
    """Return the error for a schema that cannot be obeyed."""
    return RequestError(f"structured_outputs: the JSON schema cannot be obeyed at {pointer}:"
                        f" {reason}")  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A schema, where it is, and which one led to it at the same place of the answer."""

    schema: Any
    pointer: str
    origin: Place | None = None

    def at(self, *names: str | int) -> Place:
        """Return a schema inside of this one."""
        schema, pointer = self.schema, self.pointer
        for name in names:
            schema = schema[name]
            pointer += "/" + str(name).replace("~", "~0").replace("/", "~1")
        return Place(schema, pointer)


Places = tuple[Place, ...]  # schemas that all hold; of none: anything


@dataclass
class Facts:
    """What holds for one alternative of a place.

    Attributes:
        pointer: where it is.
        depth: how often a schema that contains itself was entered.
        places: the schemas that were joined.
        rivals: branches of oneOf that an answer must not satisfy.
        types: the types that may be answered; None if no schema says any.
        typed: the types of the other keywords.
        values: of `enum` and `const`, by their canonical text; None if there are none.
    """

    pointer: str
    depth: int
    places: Places = ()
    rivals: Places = ()
    types: frozenset[str] | None = None
    typed: frozenset[str] = frozenset()
    values: dict[str, Any] | None = None
    interval: Interval = Interval()  # noqa: RUF009 - it is frozen
    steps: tuple[Decimal, ...] = ()
    least_length: int = 0
    most_length: int | None = None
    patterns: dict[str, Node] = field(default_factory=dict)
    least_items: int = 0
    most_items: int | None = None
    unique: bool = False
    first_items: list[Places] = field(default_factory=list)
    items: Places = ()
    says_items: bool = False
    properties: dict[str, Places] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)
    others: Places = ()
    says_others: bool = False
    least_properties: int = 0
    most_properties: int | None = None

    @property
    def answered(self) -> frozenset[str]:
        """The types that are answered: those of the keywords where `type` says none."""
        return self.types if self.types is not None else self.typed or ALL_TYPES

    def allowed(self) -> frozenset[str]:
        """Return the types that the schemas allow."""
        return ALL_TYPES if self.types is None else self.types

    def item(self, index: int) -> Places:
        """Return what holds for an item of an array."""
        known = index < len(self.first_items)
        return self.first_items[index] if known else self.items

    def property(self, name: str) -> Places:
        """Return what holds for the value of a property."""
        return self.properties.get(name, self.others)

    def join(self, place: Place) -> None:
        """Join what the keywords of a schema say. Raises RequestError."""
        _join_types(self, place)
        for name, value in place.schema.items():
            if name in KEYWORDS:
                KEYWORDS[name](self, value, f"{place.pointer}/{name}")
        _join_numbers(self, place)
        _join_items(self, place)
        _join_properties(self, place)


def check_keywords(place: Place) -> None:
    """Raise RequestError for what is not a schema, or has keywords that cannot be obeyed."""
    if not isinstance(place.schema, dict):
        raise refuse(place.pointer, "a schema must be an object or a boolean")
    for name in place.schema:
        at = place.at(name).pointer
        if name in REFUSED and not (name in _EMPTY and place.schema[name] == {}):
            raise refuse(at, f"{name} is not supported")
        known = name in ANNOTATIONS or name in OBEYED or name in REFUSED
        if not known and not name.startswith("x-") and (name != "$id" or place.pointer != "#"):
            raise refuse(at, f"{name} is not a known keyword")


def canonical(value: Any) -> str:
    """Return one text for values that are the same in JSON, where true is not 1 and 1.0 is 1."""
    return json.dumps(_canonical(value), sort_keys=True)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(one) for one in value]
    if isinstance(value, dict):
        return {name: _canonical(one) for name, one in value.items()}
    return value


def decimal(value: Any, pointer: str) -> Decimal:
    """Return a number of the schema. Raises RequestError."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good:
        raise refuse(pointer, "must be a number")
    number = Decimal(json.dumps(value))
    if abs(number) > 10**MAX_DIGITS or number.as_tuple().exponent < -MAX_DIGITS:
        raise refuse(pointer, f"must have at most {MAX_DIGITS} digits")
    return number


def _count(value: Any, pointer: str) -> int:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or value < 0 or value != value // 1:
        raise refuse(pointer, "must be a number that is 0 or more")
    return int(value)


def _highest(name: str, *types: str) -> Callable[[Facts, Any, str], None]:
    def join(facts: Facts, value: Any, pointer: str) -> None:
        setattr(facts, name, max(getattr(facts, name), _count(value, pointer)))
        facts.typed |= {*types}

    return join


def _lowest(name: str, *types: str) -> Callable[[Facts, Any, str], None]:
    def join(facts: Facts, value: Any, pointer: str) -> None:
        before, count = getattr(facts, name), _count(value, pointer)
        setattr(facts, name, count if before is None else min(before, count))
        facts.typed |= {*types}

    return join


def _join_types(facts: Facts, place: Place) -> None:
    """Join the types; OpenAPI's `nullable` adds null to those of its own schema."""
    nullable, names = place.schema.get("nullable", False), place.schema.get("type")
    if not isinstance(nullable, bool):
        raise refuse(f"{place.pointer}/nullable", "must be true or false")
    if "type" not in place.schema:
        return
    names = names if isinstance(names, list) else [names]
    if not names or not all(isinstance(one, str) and one in TYPES for one in names):
        reason = f"must be one of {', '.join(TYPES)}, or a list of them"
        raise refuse(f"{place.pointer}/type", reason)
    types = frozenset().union(*(TYPES[one] for one in names))
    facts.types = (types | {"null"} if nullable else types) & facts.allowed()


def _enum(facts: Facts, value: Any, pointer: str) -> None:
    if not isinstance(value, list):
        raise refuse(pointer, "must be a list of values")
    own = {canonical(one): one for one in value}
    known = own if facts.values is None else facts.values
    facts.values = {text: one for text, one in known.items() if text in own}


def _const(facts: Facts, value: Any, pointer: str) -> None:
    _enum(facts, [value], pointer)


def _pattern(facts: Facts, value: Any, pointer: str) -> None:
    if not isinstance(value, str):
        raise refuse(pointer, "must be a regular expression")
    try:
        facts.patterns[value] = parse(value)
    except ValueError as error:
        raise refuse(pointer, f"the regular expression {error}") from None
    facts.typed |= {"string"}


def _format(facts: Facts, value: Any, pointer: str) -> None:
    if isinstance(value, str) and value in STORED:
        if STORED[value] is not None:
            low, high = map(Decimal, STORED[value])
            facts.interval = facts.interval.meet(Interval(low, high))
        facts.typed |= NUMBERS
        return
    if not isinstance(value, str) or value not in FORMATS:
        raise refuse(pointer, f"the format must be one of {', '.join((*FORMATS, *STORED))}")
    _pattern(facts, FORMATS[value], pointer)


def _unique(facts: Facts, value: Any, pointer: str) -> None:
    if not isinstance(value, bool):
        raise refuse(pointer, "must be true or false")
    facts.unique = facts.unique or value
    if value:
        facts.typed |= {"array"}


def _join_numbers(facts: Facts, place: Place) -> None:
    for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"):
        if name not in place.schema:
            continue
        number = decimal(place.schema[name], f"{place.pointer}/{name}")
        is_open = name.startswith("exclusive")
        facts.typed |= NUMBERS
        if name == "multipleOf":
            if number <= 0:
                raise refuse(f"{place.pointer}/{name}", "must be above 0")
            facts.steps = (*facts.steps, number)
        elif name.lower().endswith("minimum"):
            facts.interval = facts.interval.above(number, is_open=is_open)
        else:
            facts.interval = facts.interval.below(number, is_open=is_open)


def _join_items(facts: Facts, place: Place) -> None:
    """Join the items: those of either are the joined ones at the same index."""
    schema = place.schema
    as_list = isinstance(schema.get("items"), list)
    first, rest = ("items", "additionalItems") if as_list else ("prefixItems", "items")
    if first not in schema and rest not in schema:
        return
    listed = schema.get(first, [])
    if not isinstance(listed, list):
        raise refuse(f"{place.pointer}/{first}", "must be a list of schemas")
    own = [(place.at(first, index),) for index in range(len(listed))]
    own_rest = (place.at(rest),) if rest in schema else ()
    other, other_rest = facts.first_items, facts.items
    facts.first_items = [
        (other[index] if index < len(other) else other_rest)
        + (own[index] if index < len(own) else own_rest)
        for index in range(max(len(own), len(other)))
    ]
    facts.items = other_rest + own_rest
    facts.says_items = facts.says_items or rest in schema
    facts.typed |= {"array"}


def _join_properties(facts: Facts, place: Place) -> None:
    """Join the properties: what one schema does not name is one of its additional ones."""
    schema = place.schema
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(one, str) for one in required):
        raise refuse(f"{place.pointer}/required", "must be a list of names")
    named = schema.get("properties", {})
    if not isinstance(named, dict):
        raise refuse(f"{place.pointer}/properties", "must be an object of schemas")
    facts.required |= dict.fromkeys(required)
    if {"required", "properties", "additionalProperties"} & schema.keys():
        facts.typed |= {"object"}
    says_others = "additionalProperties" in schema
    own_others = (place.at("additionalProperties"),) if says_others else ()
    own = {name: (place.at("properties", name),) for name in named}
    facts.properties = {
        name: facts.property(name) + own.get(name, own_others)
        for name in (*facts.properties, *(name for name in own if name not in facts.properties))
    }
    facts.others += own_others
    facts.says_others = facts.says_others or says_others


KEYWORDS: dict[str, Callable[[Facts, Any, str], None]] = {
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "format": _format,
    "uniqueItems": _unique,
    "minLength": _highest("least_length", "string"),
    "maxLength": _lowest("most_length", "string"),
    "minItems": _highest("least_items", "array"),
    "maxItems": _lowest("most_items", "array"),
    "minProperties": _highest("least_properties", "object"),
    "maxProperties": _lowest("most_properties", "object"),
}
OBEYED = frozenset(KEYWORDS) | {
    "type", "nullable", "$ref", "allOf", "anyOf", "oneOf", "minimum", "exclusiveMinimum",
    "maximum", "exclusiveMaximum", "multipleOf", "prefixItems", "items", "additionalItems",
    "properties", "required", "additionalProperties",
}  # fmt: skip
