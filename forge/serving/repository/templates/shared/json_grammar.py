# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""A JSON Schema as a grammar for XGrammar, each of whose texts is a valid answer. Pure.

Not every valid answer is one of the grammar's: properties come in the order of the schema, names
that it does not have only where it says `additionalProperties`, and everything is bounded: without
bounds, SmolLM2 counts in an array and repeats itself in a string until its tokens are used up, and
the answer is not valid JSON. White space is one space after a comma and a colon, as json.dumps
writes and models learned: where more was allowed, small models wrote blanks until their tokens were
used up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from json_facts import NUMBERS, Facts, Places, canonical, refuse
from json_numbers import ANY_NUMBER, integer, multiples, number
from json_patterns import copies, fit
from json_rules import Rules, choice, json_text, literal, repeat
from json_schema import Schema
from json_strings import MAX_LENGTH, Strings
from json_values import excludes, holds

NESTING = 4  # of objects and arrays in a value of any kind
MEMBERS = 16  # of an object or array in it, and properties whose names are free
NAME = 32  # characters of a name that is free
ITEMS = 64  # of an array without maxItems
MAX_ITEMS = 4096
LENGTH = 1024  # of a string without maxLength
MAX_MULTIPLES = 512
MAX_COPIES = 4096  # of a regular expression's parts, with its repetitions written out
MAX_COUNTED = 64  # properties where their number is bounded


def grammar_of(schema: Any) -> str:
    """Return the grammar of a schema.

    Raises RequestError for a schema that cannot be obeyed, or that no answer has.
    """
    return _Grammar(Schema(schema)).text()


def any_object() -> str:
    """Return the grammar of any object."""
    return grammar_of({"type": "object"})


@dataclass(frozen=True)
class _Member:
    """A property: its text, or None if it cannot be there."""

    text: str | None
    required: bool


class _Grammar:
    """The rules of one schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rules = Rules()
        self.strings = Strings(self.rules)
        self.known: dict[tuple[Any, ...], str | None] = {}

    def text(self) -> str:
        root = self._value((self.schema.root,), 0)
        if root is None:
            pointer, reason = self.schema.reasons[0]
            raise refuse(pointer, f"no answer is possible: {reason}")
        return self.rules.text(root)

    def _value(self, places: Places, depth: int) -> str | None:
        """Return the rule of a value; None if no value is possible."""
        key = (*sorted({json.dumps(one.schema) for one in places}), depth)
        if key not in self.known:
            parts = [self._alternative(one) for one in self.schema.expand(places, depth)]
            found = [one for one in parts if one is not None]
            self.known[key] = self._named(choice(found)) if found else None
        return self.known[key]

    def _named(self, expression: str) -> str:
        """Return the rule of an expression, which may be one already."""
        return expression if expression in self.rules.bodies else self.rules.add(expression)

    def _alternative(self, facts: Facts) -> str | None:
        if facts.values is not None:
            return self._literals(facts)
        for rival in facts.rivals:
            if not excludes(self.schema, facts, rival):
                reason = "an answer may have two branches of oneOf; use anyOf"
                raise refuse(rival.pointer, reason)
        if facts.types == frozenset():
            self.schema.impossible(facts.pointer, "no type is allowed")
        return self._any(NESTING) if _is_free(facts) else self._typed(facts)

    def _literals(self, facts: Facts) -> str | None:
        places = tuple(facts.places)
        found = [one for one in facts.values.values() if holds(self.schema, places, one)]
        allowed = [
            one
            for one in found
            if not any(holds(self.schema, (rival,), one) for rival in facts.rivals)
        ]
        if not allowed:
            self.schema.impossible(facts.pointer, "no value of enum or const is allowed")
            return None
        return choice([literal(json_text(one)) for one in allowed])

    def _typed(self, facts: Facts) -> str | None:
        answered = facts.answered
        parts = ['"null"'] if "null" in answered else []
        parts += ['"true"', '"false"'] if "boolean" in answered else []
        if answered & NUMBERS:
            parts.append(self._number(facts))
        if "string" in answered:
            parts.append(self._string(facts))
        if "array" in answered:
            parts.append(self._array(facts))
        if "object" in answered:
            parts.append(self._object(facts))
        found = [one for one in parts if one is not None]
        return choice(found) if found else None

    def _any(self, nesting: int) -> str:
        """Return the rule of a value of any kind."""
        parts = ['"null"', '"true"', '"false"', self.rules.add(ANY_NUMBER)]
        parts.append(self.rules.add(self.strings.text(0, LENGTH)))
        if nesting:
            item = self._any(nesting - 1)
            parts.append(_enclosed("[", _list(item, 0, MEMBERS), "]"))
            parts.append(_enclosed("{", _list(self._free_member(item, ()), 0, MEMBERS), "}"))
        else:
            parts += ['"[]"', '"{}"']
        return self.rules.add(" | ".join(parts))

    def _free_member(self, value: str, taken: tuple[str, ...]) -> str:
        return self.rules.add(f'"\\"" {self.strings.name(taken, NAME)} "\\": " {value}')

    def _number(self, facts: Facts) -> str | None:
        whole = "fraction" not in facts.answered
        if facts.steps:
            return self._multiples(facts, whole=whole)
        found = integer(facts.interval) if whole else number(facts.interval)
        if found is None:
            self.schema.impossible(facts.pointer, "no number is between the bounds")
            return None
        return self.rules.add(found)

    def _multiples(self, facts: Facts, *, whole: bool) -> str | None:
        found = multiples(facts.interval, facts.steps, MAX_MULTIPLES)
        if found is None:
            if whole and all(one == 1 for one in facts.steps):
                return self.rules.add(integer(facts.interval))
            reason = f"multipleOf needs bounds with at most {MAX_MULTIPLES} multiples between them"
            raise refuse(f"{facts.pointer}/multipleOf", reason)
        texts = [f"{one.normalize():f}" for one in found if not whole or one % 1 == 0]
        if not texts:
            self.schema.impossible(facts.pointer, "no multiple is between the bounds")
            return None
        return self.rules.add(choice([literal(one) for one in texts]))

    def _string(self, facts: Facts) -> str | None:
        least, most = facts.least_length, facts.most_length
        if most is not None and least > most:
            self.schema.impossible(facts.pointer, f"minLength {least} is above maxLength {most}")
            return None
        if least > MAX_LENGTH:
            raise refuse(f"{facts.pointer}/minLength", f"must be at most {MAX_LENGTH}")
        most = max(LENGTH, least) if most is None else min(most, MAX_LENGTH)
        if not facts.patterns:
            return self.rules.add(self.strings.text(least, most))
        if len(facts.patterns) > 1:
            raise refuse(facts.pointer, "a string can have one of pattern and format only")
        (node,) = facts.patterns.values()
        if copies(node) > MAX_COPIES:
            raise refuse(facts.pointer, f"repetitions of the pattern are at most {MAX_COPIES}")
        fitted = fit(node, least, most)
        found = None if fitted is None else self.strings.matching(fitted)
        if found is None:
            reason = "no text was found that has the pattern and the length"
            self.schema.impossible(facts.pointer, reason)
            return None
        return self.rules.add(found)

    def _array(self, facts: Facts) -> str | None:
        least, most = facts.least_items, facts.most_items
        if least > MAX_ITEMS:
            raise refuse(f"{facts.pointer}/minItems", f"must be at most {MAX_ITEMS}")
        most = max(ITEMS, least) if most is None else min(most, MAX_ITEMS)
        if facts.unique and most > 1:
            return self._set(facts, least, most)
        first = [self._value(one, facts.depth) for one in facts.first_items]
        stop = first.index(None) if None in first else len(first)
        first, rest = first[:stop], None
        unsaid = bool(first) and not facts.says_items and least <= stop
        ends = stop < len(facts.first_items) or unsaid
        if not ends and most > stop:
            rest = self._value(facts.items, facts.depth)
        if rest is None:
            most = min(most, stop)
        if least > most:
            self.schema.impossible(facts.pointer, f"minItems {least} is above {most}")
            return None
        return _enclosed("[", self._items(first, rest, least, most), "]")

    def _items(self, first: list[str], rest: str | None, least: int, most: int) -> str:
        """Return the items of an array, from the last one to the first."""
        count = len(first)
        tail = '""'
        if rest is not None and not first:
            return _list(rest, least, most)
        if rest is not None:
            tail = repeat(f'", " {rest}', max(0, least - count), most - count)
        for index in range(min(count, most) - 1, -1, -1):
            one = first[index] if index == 0 else f'", " {first[index]}'
            tail = one if tail == '""' else f"{one} {tail}"
            if index >= least:
                tail = f"({tail})?"
        return tail

    def _set(self, facts: Facts, least: int, most: int) -> str | None:
        """Return an array without equal items: of listed values, in their order."""
        places = facts.items
        listed = None if facts.first_items else self._listed(places, facts.depth)
        if listed is None:
            reason = "uniqueItems needs items that have enum or const, and no prefixItems"
            raise refuse(f"{facts.pointer}/uniqueItems", reason)
        if len(listed) > MAX_COUNTED:
            reason = f"uniqueItems needs items with at most {MAX_COUNTED} values"
            raise refuse(f"{facts.pointer}/uniqueItems", reason)
        members = [_Member(literal(json_text(one)), required=False) for one in listed]
        found = self._members(members, None, least, most)
        if found is None:
            self.schema.impossible(facts.pointer, f"there are fewer than {least} different items")
            return None
        return _enclosed("[", found, "]")

    def _listed(self, places: Places, depth: int) -> list[Any] | None:
        values: dict[str, Any] = {}
        for facts in self.schema.expand(places, depth):
            if facts.values is None and facts.types != frozenset({"boolean"}):
                return None
            both = {canonical(one): one for one in (False, True)}
            values |= both if facts.values is None else facts.values
        return [one for one in values.values() if holds(self.schema, places, one)]

    def _object(self, facts: Facts) -> str | None:
        names = {**facts.properties, **{one: facts.others for one in facts.required
                                        if one not in facts.properties}}  # fmt: skip
        members = []
        for name, places in names.items():
            value = self._value(places, facts.depth)
            required = name in facts.required
            if value is None and required:
                reason = f"{json_text(name)} is required, and nothing is allowed for it"
                self.schema.impossible(facts.pointer, reason)
                return None
            text = None if value is None else f"{literal(json_text(name) + ': ')} {value}"
            members.append(_Member(text, required))
        least, most = facts.least_properties, facts.most_properties
        other = self._other(facts, tuple(names), sum(one.text is not None for one in members))
        found = self._members(members, other, least, most)
        if found is None:
            reason = "no object has so many properties; names that are free count as one"
            self.schema.impossible(facts.pointer, reason)
            return None
        return _enclosed("{", found, "}")

    def _other(self, facts: Facts, names: tuple[str, ...], count: int) -> str | None:
        """Return a property whose name is free; None if there is none."""
        wanted = not names or facts.says_others or facts.least_properties > count
        if not wanted:
            return None
        value = self._value(facts.others, facts.depth)
        return None if value is None else self._free_member(value, names)

    def _members(
        self, members: list[_Member], other: str | None, least: int, most: int | None
    ) -> str | None:
        """Return the members of an object or a set in their order; None if none are possible."""
        required = sum(one.required for one in members)
        possible = sum(one.text is not None for one in members)
        fewer = most is not None and (other is not None or most < possible)
        counted = least > required or fewer
        if counted and possible > MAX_COUNTED:
            reason = f"the number of properties can be bounded for at most {MAX_COUNTED}"
            raise refuse(self.schema.root.pointer, reason)
        counts = range(len(members) + 1) if counted else range(2)  # so many were given, or some
        after = {count: _others(other, count, least, most) for count in counts}
        for index in range(len(members) - 1, -1, -1):
            before = {}
            for count in counts if index else (0,):
                full = count > index or (most is not None and count >= most)
                following = None if full and counted else after.get(count + 1, after[counts[-1]])
                before[count] = self._member(members[index], count, following, after[count])
            after = before
        return after[0]

    def _member(
        self, member: _Member, count: int, following: str | None, without: str | None
    ) -> str | None:
        """Return a member and what follows it, or what comes without it."""
        options = [without] if not member.required and without is not None else []
        if member.text is not None and following is not None:
            text = f'", " {member.text}' if count else member.text
            options.insert(0, text if following == '""' else f"{text} {following}")
        if len(options) < 2:  # noqa: PLR2004 - one way needs no rule
            return options[0] if options else None
        return self.rules.add(choice(options))


def _is_free(facts: Facts) -> bool:
    return facts.types is None and not facts.typed


def _others(other: str | None, count: int, least: int, most: int | None) -> str | None:
    """Return the members with free names; two of them may be the same, so they count as one."""
    missing = max(0, least - count)
    if other is None:
        return '""' if not missing else None
    room = MEMBERS if most is None else min(most - count, MAX_ITEMS)
    if missing > 1 or room < missing:
        return None
    if count == 0:
        return _list(other, missing, room)
    return repeat(f'", " {other}', missing, room)


def _list(item: str, least: int, most: int) -> str:
    """Return items with commas between them."""
    if most == 0:
        return '""'
    more = repeat(f'", " {item}', max(0, least - 1), most - 1)
    found = item if more == '""' else f"{item} {more}"
    return found if least else f"({found})?"


def _enclosed(begin: str, content: str, end: str) -> str:
    if content == '""':
        return literal(begin + end)
    return f"{literal(begin)} {content} {literal(end)}"
