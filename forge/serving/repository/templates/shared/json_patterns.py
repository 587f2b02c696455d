# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
r"""Regular expressions of JSON Schema: read, matched, and fitted to a length. Pure.

What ECMA 262 and Python read differently is read as what both allow: `\d` and `\w` are ASCII's, and
so are `\D` and `\W`. Look-around, references back and word boundaries are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LAST = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]


class PatternError(ValueError):
    """A regular expression that is not valid, or that no grammar can express."""


@dataclass(frozen=True)
class Chars:
    """One character of a set; ranges in order, which do not touch."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequence:
    """One after another."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    """One of several; none of no alternatives."""

    options: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """One node several times; `most` None: without end."""

    node: Node
    least: int
    most: int | None


@dataclass(frozen=True)
class Edge:
    """The begin or the end of the text."""

    start: bool


Node = Chars | Sequence | Choice | Repeat | Edge
Width = tuple[int, int | None]
NOTHING = Sequence(())


def union(*sets: Ranges) -> Ranges:
    """Return the characters that are in any of the sets."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(one for ranges in sets for one in ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def complement(ranges: Ranges) -> Ranges:
    """Return all other characters; surrogates are none."""
    found, at = [], 0
    for low, high in (*union(ranges, ((0xD800, 0xDFFF),)), (LAST + 1, LAST + 1)):
        if at < low:
            found.append((at, low - 1))
        at = high + 1
    return tuple(found)


ANY = complement(())
_ASCII: Ranges = ((0, 0x7F),)
_DIGIT: Ranges = ((0x30, 0x39),)
_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Ranges = ((9, 13), (0x20, 0x20))
_SPACES = union(  # of Unicode, as either of ECMA 262 and Python has them
    _SPACE, ((0x1C, 0x1F), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    ((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)  # fmt: skip
_NOT_ASCII = complement(_ASCII)


def _outside(ranges: Ranges) -> Ranges:
    return complement(union(complement(_ASCII), ranges))


# What both standards have in a class, and what either has: the latter is left out of [^…].
_NARROW = {
    "d": _DIGIT, "w": _WORD, "s": _SPACE,
    "D": _outside(_DIGIT), "W": _outside(_WORD), "S": complement(_SPACES),
}  # fmt: skip
_WIDE = {
    "d": union(_DIGIT, _NOT_ASCII), "w": union(_WORD, _NOT_ASCII), "s": _SPACES,
    "D": complement(_DIGIT), "W": complement(_WORD), "S": complement(_SPACE),
}  # fmt: skip
_DOT = complement(((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)))
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}
_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_MAX_DEPTH = 32


def parse(pattern: str) -> Node:
    """Return a pattern as the text that it describes from begin to end.

    Raises PatternError.
    """
    return _whole(_Parser(pattern).parse())


def _whole(node: Node) -> Node:
    """Return a node without edges: any text stands where it has none."""
    if isinstance(node, Choice):
        return Choice(tuple(_whole(one) for one in node.options))
    parts = list(node.parts) if isinstance(node, Sequence) else [node]
    if len(parts) == 1 and isinstance(parts[0], Choice) and _has_edge(parts[0]):
        return _whole(parts[0])
    any_text = Repeat(Chars(ANY), 0, None)
    starts = [one for one in parts if one == Edge(start=True)]
    ends = [one for one in parts if one == Edge(start=False)]
    inside = parts[len(starts) : len(parts) - len(ends)]
    if any(map(_has_edge, inside)):
        raise PatternError("has ^ or $ at another place than begin and end")
    before = [] if starts else [any_text]
    after = [] if ends else [any_text]
    return Sequence((*before, *inside, *after))


def _has_edge(node: Node) -> bool:
    if isinstance(node, Sequence | Choice):
        return any(map(_has_edge, node.parts if isinstance(node, Sequence) else node.options))
    return isinstance(node, Edge) or (isinstance(node, Repeat) and _has_edge(node.node))


class _Parser:
    """Reads one pattern."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def parse(self) -> Node:
        node = self._choice()
        if self.at < len(self.text):
            raise PatternError("has a ) without (")
        return node

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self) -> str:
        if self.at >= len(self.text):
            raise PatternError("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self.at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        least, most = 1, 1
        one = self._peek()
        if one in ("*", "+", "?") and one:
            self.at += 1
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[one]
        elif found := _COUNT.match(self.text, self.at):
            self.at = found.end()
            least = int(found[1])
            most = least if found[2] is None else int(found[3]) if found[3] else None
            if most is not None and most < least:
                raise PatternError(f"repeats {found[0]}")
        else:
            return node
        if isinstance(node, Edge):
            raise PatternError("repeats ^ or $")
        if self._peek() == "?":
            self.at += 1  # which one is tried first changes nothing
        if self._peek() in ("*", "+") and self._peek():
            raise PatternError("repeats a repetition")
        return Repeat(node, least, most)

    def _atom(self) -> Node:
        one = self._take()
        if one == "(":
            return self._group()
        if one == "[":
            return Chars(self._class())
        if one == "\\":
            return Chars(self._escape(_NARROW))
        if one in "^$":
            return Edge(one == "^")
        if one in "*+?":
            raise PatternError(f"repeats nothing with {one}")
        return Chars(_DOT if one == "." else _one(one))

    def _group(self) -> Node:
        if self._peek() == "?":
            if self.text[self.at : self.at + 2] != "?:":
                raise PatternError(f"has {self.text[self.at - 1 : self.at + 3]}")
            self.at += 2
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise PatternError(f"is nested deeper than {_MAX_DEPTH}")
        node = self._choice()
        if self._take() != ")":
            raise PatternError("has a ( without )")
        self.depth -= 1
        return node

    def _class(self) -> Ranges:
        negative = self._peek() == "^"
        self.at += negative
        known = _WIDE if negative else _NARROW
        found: list[Ranges] = []
        while self._peek() != "]":
            first = self._member(known)
            if self._peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                first = _span(first, self._member(known))
            found.append(first)
        self.at += 1
        return complement(union(*found)) if negative else union(*found)

    def _member(self, known: dict[str, Ranges]) -> Ranges:
        one = self._take()
        if one != "\\":
            return _one(one)
        if self._peek() == "b":
            self.at += 1
            return _one("\b")
        return self._escape(known)

    def _escape(self, known: dict[str, Ranges]) -> Ranges:
        one = self._take()
        if one in known:
            return known[one]
        if one in _CONTROLS and not (one == "0" and self._peek().isdigit()):
            return _one(chr(_CONTROLS[one]))
        if one in "xu":
            return self._code(2 if one == "x" else 4)
        if one.isalnum():
            raise PatternError(f"has \\{one}")
        return _one(one)

    def _code(self, digits: int) -> Ranges:
        text = self.text[self.at : self.at + digits]
        if not re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", text):
            raise PatternError("has a code that is not hexadecimal")
        self.at += digits
        return _one(chr(int(text, 16)))


def _one(character: str) -> Ranges:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - the surrogates
        raise PatternError("has a half of a surrogate pair")
    return ((code, code),)


def _span(first: Ranges, last: Ranges) -> Ranges:
    low, high = first[0][0], last[-1][1]
    single = all(len(one) == 1 and one[0][0] == one[0][1] for one in (first, last))
    if not single or low > high:
        raise PatternError("has a range of characters that is not valid")
    return complement(complement(((low, high),)))  # without surrogates


def width(node: Node) -> Width:
    """Return the least and the most characters of a node; None: without end."""
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Sequence):
        widths = [width(one) for one in node.parts]
        most = [high for _, high in widths]
        return sum(low for low, _ in widths), None if None in most else sum(most)
    if isinstance(node, Choice):
        widths = [width(one) for one in node.options]
        most = [high for _, high in widths]
        return min(low for low, _ in widths), None if None in most else max(most)
    low, high = width(node.node)
    if high == 0 or node.most == 0:
        return 0, 0
    unbounded = high is None or node.most is None
    return low * node.least, None if unbounded else high * node.most


def fit(node: Node, least: int, most: int | None) -> Node | None:
    """Return texts of a node whose lengths are allowed; None if none can be found.

    Where several parts have no fixed length, the characters are divided between them, so some
    texts that are allowed are left out.
    """
    low, high = width(node)
    if low >= least and (most is None or (high is not None and high <= most)):
        return node
    if (most is not None and low > most) or (high is not None and high < least):
        return None
    if isinstance(node, Choice):
        options = [fit(one, least, most) for one in node.options]
        found = tuple(one for one in options if one is not None)
        return Choice(found) if found else None
    if isinstance(node, Repeat):
        return _fit_repeat(node, least, most)
    return _fit_sequence(node, least, most) if isinstance(node, Sequence) else None


def _fit_repeat(node: Repeat, least: int, most: int | None) -> Node | None:
    """Return fewer or more repetitions, or as few as are allowed of a shorter node."""
    low, high = width(node.node)
    if low == 0 and least:
        return None
    first = max(node.least, -(-least // low)) if low else node.least
    if node.most is not None and first > node.most:
        return None
    if most is None:
        return Repeat(node.node, first, node.most)
    if high:
        last = min(most // high, most if node.most is None else node.most)
        if first <= last:
            return Repeat(node.node, first, last)
    if first == 0:
        return NOTHING
    shorter = fit(node.node, 0, most // first)
    return None if shorter is None else Repeat(shorter, first, first)


def _fit_sequence(node: Sequence, least: int, most: int | None) -> Node | None:
    """Divide the lengths between the parts, the first one with room first."""
    widths = [width(one) for one in node.parts]
    missing = max(0, least - sum(low for low, _ in widths))
    spare = None if most is None else most - sum(low for low, _ in widths)
    loose = sum(low != high for low, high in widths)
    found = []
    for part, (low, high) in zip(node.parts, widths, strict=True):
        if low == high:
            found.append(part)
            continue
        more = missing if high is None else min(missing, high - low)
        room = None if spare is None else max(more, spare // loose)
        fitted = fit(part, low + more, None if room is None else low + room)
        if fitted is None:
            return None
        found.append(fitted)
        missing, loose = missing - more, loose - 1
        spare = None if spare is None or room is None else spare - room
    return Sequence(tuple(found)) if missing == 0 else None


def matches(node: Node, text: str) -> bool:
    """Return whether a whole text is one of a node."""
    return len(text) in _ends(node, text, frozenset({0}))


def _ends(node: Node, text: str, starts: frozenset[int]) -> frozenset[int]:
    """Return where a node can end that begins at any of the starts."""
    if isinstance(node, Chars):
        found = (at + 1 for at in starts if at < len(text) and has(node.ranges, ord(text[at])))
        return frozenset(found)
    if isinstance(node, Sequence):
        for one in node.parts:
            starts = _ends(one, text, starts)
        return starts
    if isinstance(node, Choice):
        return frozenset().union(*(_ends(one, text, starts) for one in node.options))
    return _repeated_ends(node, text, starts)


def _repeated_ends(node: Repeat, text: str, starts: frozenset[int]) -> frozenset[int]:
    for _ in range(node.least):
        starts = _ends(node.node, text, starts)
        if not starts:
            return starts
    found, times = starts, node.least
    while starts and (node.most is None or times < node.most):
        starts = _ends(node.node, text, starts) - found
        found |= starts
        times += 1
    return found


def has(ranges: Ranges, code: int) -> bool:
    """Return whether a character is in a set."""
    return any(low <= code <= high for low, high in ranges)


def copies(node: Node) -> int:
    """Return how many nodes a node is when its counted repetitions are written out."""
    if isinstance(node, Sequence | Choice):
        inside = node.parts if isinstance(node, Sequence) else node.options
        return 1 + sum(map(copies, inside))
    if isinstance(node, Repeat):
        return copies(node.node) * max(1, node.least, node.most or 1)
    return 1
