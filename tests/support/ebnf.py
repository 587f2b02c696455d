"""A grammar in XGrammar's EBNF: random texts of it, and whether a text is one. Written for tests.

It shares no code with what makes the grammars, so that a fault there is not repeated here.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["Grammar"]

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<set>\[(?:[^\]\\]|\\.)+\])|(?P<name>\w+)
    |(?P<count>\{\d+(?:,\d*)?\})|(?P<sign>[()|*+?]))""",
    re.VERBOSE | re.DOTALL,
)
_CODE: Final = re.compile(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})|\\(.)|(.)", re.DOTALL)
_SIGNS: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_LAST: Final = 0x10FFFF
_RECURSION: Final = 50_000


@dataclass(frozen=True)
class Literal:
    text: str


@dataclass(frozen=True)
class CharacterSet:
    ranges: tuple[tuple[int, int], ...]
    negative: bool

    def __contains__(self, code: int) -> bool:
        return any(low <= code <= high for low, high in self.ranges) != self.negative


@dataclass(frozen=True)
class Reference:
    name: str


@dataclass(frozen=True)
class Series:
    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Alternatives:
    options: tuple[Expression, ...]


@dataclass(frozen=True)
class Repetition:
    part: Expression
    least: int
    most: int | None


Expression: TypeAlias = Literal | CharacterSet | Reference | Series | Alternatives | Repetition


class Grammar:
    """The rules of a grammar, of which `root` is the first."""

    def __init__(self, text: str) -> None:
        bodies = dict(line.split(" ::= ", 1) for line in text.split("\n"))
        self.rules = {name: _Reader(body).read() for name, body in bodies.items()}
        self._heights = dict.fromkeys(self.rules, math.inf)
        for _ in self.rules:
            found = {name: self._height(one) + 1 for name, one in self.rules.items()}
            if found == self._heights:
                break
            self._heights = found

    def draw(self, numbers: random.Random, budget: int = 400) -> str:
        """Return a random text; after `budget` choices the shortest ones are taken."""
        with _deep():
            return "".join(_Draw(self, numbers, budget).pieces(Reference("root")))

    def accepts(self, text: str) -> bool:
        """Return whether a whole text is one of the grammar."""
        with _deep():
            return len(text) in _Match(self.rules, text).ends(Reference("root"), 0)

    def _height(self, one: Expression) -> float:
        if isinstance(one, Reference):
            return self._heights[one.name]
        if isinstance(one, Series):
            return max((self._height(part) for part in one.parts), default=0)
        if isinstance(one, Alternatives):
            return min(self._height(option) for option in one.options)
        if isinstance(one, Repetition):
            return self._height(one.part) if one.least else 0
        return 0

    def lowest(self, options: tuple[Expression, ...]) -> Expression:
        return min(options, key=self._height)


@contextmanager
def _deep() -> Iterator[None]:
    """Allow rules that call themselves for each character."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_RECURSION)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class _Draw:
    def __init__(self, grammar: Grammar, numbers: random.Random, budget: int) -> None:
        self.grammar, self.numbers, self.budget = grammar, numbers, budget

    def pieces(self, one: Expression) -> Iterator[str]:
        if isinstance(one, Literal):
            yield one.text
        elif isinstance(one, CharacterSet):
            yield self._character(one)
        elif isinstance(one, Reference):
            yield from self.pieces(self.grammar.rules[one.name])
        elif isinstance(one, Series):
            for part in one.parts:
                yield from self.pieces(part)
        elif isinstance(one, Alternatives):
            self.budget -= 1
            spent = self.budget < 0
            options = one.options
            chosen = self.grammar.lowest(options) if spent else self.numbers.choice(options)
            yield from self.pieces(chosen)
        else:
            for _ in range(self._times(one)):
                yield from self.pieces(one.part)

    def _times(self, one: Repetition) -> int:
        self.budget -= 1
        if self.budget < 0:
            return one.least
        most = one.least + 12 if one.most is None else one.most
        if self.numbers.random() < 0.2 and most < 40:
            return most
        more = 0
        while one.least + more < most and self.numbers.random() < 0.6:
            more += 1
        return one.least + more

    def _character(self, one: CharacterSet) -> str:
        ranges = _outside(one.ranges) if one.negative else one.ranges
        low, high = self.numbers.choice(ranges)
        return chr(self.numbers.choice((low, high, self.numbers.randint(low, high))))


class _Match:
    def __init__(self, rules: dict[str, Expression], text: str) -> None:
        self.rules, self.text = rules, text
        self.known: dict[tuple[str, int], frozenset[int]] = {}

    def ends(self, one: Expression, at: int) -> frozenset[int]:
        if isinstance(one, Literal):
            found = self.text.startswith(one.text, at)
            return frozenset({at + len(one.text)}) if found else frozenset()
        if isinstance(one, CharacterSet):
            inside = at < len(self.text) and ord(self.text[at]) in one
            return frozenset({at + 1}) if inside else frozenset()
        if isinstance(one, Reference):
            key = one.name, at
            if key not in self.known:
                self.known[key] = frozenset()  # a rule that begins with itself adds nothing
                self.known[key] = self.ends(self.rules[one.name], at)
            return self.known[key]
        if isinstance(one, Series):
            starts = frozenset({at})
            for part in one.parts:
                starts = self._all(part, starts)
            return starts
        if isinstance(one, Alternatives):
            return frozenset[int]().union(*(self.ends(option, at) for option in one.options))
        return self._repeated(one, at)

    def _all(self, one: Expression, starts: frozenset[int]) -> frozenset[int]:
        return frozenset[int]().union(*(self.ends(one, at) for at in starts))

    def _repeated(self, one: Repetition, at: int) -> frozenset[int]:
        starts = frozenset({at})
        for _ in range(one.least):
            starts = self._all(one.part, starts)
        found, times = starts, one.least
        while starts and (one.most is None or times < one.most):
            starts = self._all(one.part, starts) - found
            found |= starts
            times += 1
        return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text.rstrip(), 0

    def read(self) -> Expression:
        found = self._alternatives()
        assert self.at == len(self.text), self.text[self.at :]
        return found

    def _peek(self) -> re.Match[str] | None:
        found = _TOKEN.match(self.text, self.at)
        assert found or self.at == len(self.text), self.text[self.at :]
        return found

    def _alternatives(self) -> Expression:
        options = [self._series()]
        while (found := self._peek()) and found["sign"] == "|":
            self.at = found.end()
            options.append(self._series())
        return options[0] if len(options) == 1 else Alternatives(tuple(options))

    def _series(self) -> Expression:
        parts: list[Expression] = []
        while (found := self._peek()) and found["sign"] not in ("|", ")"):
            self.at = found.end()
            if found["sign"] == "(":
                parts.append(self._alternatives())
                closing = self._peek()
                assert closing is not None
                assert closing["sign"] == ")"
                self.at = closing.end()
            elif found["sign"] or found["count"]:
                least, most = _SIGNS[found["sign"]] if found["sign"] else _counts(found["count"])
                parts.append(Repetition(parts.pop(), least, most))
            elif found["text"]:
                parts.append(Literal(json.loads(found["text"], strict=False)))
            else:
                parts.append(_set(found["set"]) if found["set"] else Reference(found["name"]))
        return parts[0] if len(parts) == 1 else Series(tuple(parts))


def _counts(text: str) -> tuple[int, int | None]:
    least, comma, most = text[1:-1].partition(",")
    if not comma:
        return int(least), int(least)
    return int(least), int(most) if most else None


def _set(text: str) -> CharacterSet:
    inside = text[1:-1]
    negative = inside.startswith("^")
    codes: list[int | None] = []  # None: an unescaped hyphen
    for four, eight, escaped, plain in _CODE.findall(inside[negative:]):
        if plain == "-":
            codes.append(None)
        else:
            codes.append(int(four or eight, 16) if four or eight else ord(escaped or plain))
    ranges: list[tuple[int, int]] = []
    while codes:
        low = codes.pop(0)
        assert low is not None
        high: int | None = low
        if codes and codes[0] is None:
            codes.pop(0)
            high = codes.pop(0)
        assert high is not None
        assert low <= high
        ranges.append((low, high))
    return CharacterSet(tuple(ranges), negative)


def _outside(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    found, at = [], 0
    for low, high in sorted((*ranges, (0xD800, 0xDFFF), (_LAST + 1, _LAST + 1))):
        if at < low:
            found.append((at, low - 1))
        at = max(at, high + 1)
    return found
