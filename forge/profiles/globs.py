"""Find texts that several globs match: whether two rules can hold for one name. Pure.

The globs are those of fnmatch: `*`, `?`, `[seq]`, `[!seq]`. Whether a common text exists is decided
on the globs themselves: both are read in step, as automata, until every state was seen.
"""

from __future__ import annotations

import re
import string
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

__all__ = ["common_texts"]

_Tokens: TypeAlias = tuple[str, ...]
_State: TypeAlias = tuple[frozenset[int], ...]

# A bracket closes at the first `]` that is not the first of its characters; else it is a character.
_TOKEN: Final = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
_PRINTABLE: Final = "".join(sorted(string.printable[:95], key=lambda one: (not one.isalnum(), one)))
_VISITS: Final = 8


def common_texts(globs: Sequence[str]) -> Iterator[str]:
    """Yield texts that all globs match, the shortest first; nothing if there are none.

    Of texts that differ only in what no glob looks at, a few are yielded.
    """
    patterns = tuple(tuple(_TOKEN.findall(glob)) for glob in globs)
    alphabet = _alphabet(patterns)
    start: _State = tuple(_skip(tokens, frozenset({0})) for tokens in patterns)
    visits: Counter[_State] = Counter({start: 1})
    waiting = deque([("", start)])
    while waiting:
        text, state = waiting.popleft()
        if all(len(tokens) in at for tokens, at in zip(patterns, state, strict=True)):
            yield text
        for character in alphabet:
            after: _State = tuple(
                _step(tokens, at, character) for tokens, at in zip(patterns, state, strict=True)
            )
            if all(after) and visits[after] < _VISITS:
                visits[after] += 1
                waiting.append((text + character, after))


def _alphabet(patterns: Sequence[_Tokens]) -> str:
    """Return characters of which each other one is like one, for every glob."""
    parts = [part for tokens in patterns for part in tokens]
    used = {part for part in parts if len(part) == 1 and part not in "*?"}
    sets = {character for part in parts if len(part) > 1 for character in part}
    near = {chr(max(0, ord(one) + step)) for one in sets for step in (-1, 0, 1)}
    other = next(one for one in _PRINTABLE + "\u00e9" if one not in used | sets)
    return "".join(dict.fromkeys([*sorted(used), other, *sorted(near)]))


def _step(tokens: _Tokens, at: frozenset[int], character: str) -> frozenset[int]:
    found = set()
    for place in at:
        if place == len(tokens):
            continue
        if tokens[place].startswith("*"):
            found.add(place)
        elif _is_one(tokens[place], character):
            found.add(place + 1)
    return _skip(tokens, frozenset(found))


def _skip(tokens: _Tokens, at: frozenset[int]) -> frozenset[int]:
    """Return the places from which no character needs to be read first: a `*` may be empty."""
    found = set(at)
    for place in sorted(at):
        after = place
        while after < len(tokens) and tokens[after].startswith("*"):
            after += 1
            found.add(after)
    return frozenset(found)


def _is_one(part: str, character: str) -> bool:
    """Whether a part other than `*` matches a character; a lone bracket is a character."""
    return part == character or fnmatchcase(character, part)
