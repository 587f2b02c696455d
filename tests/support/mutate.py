"""Bytes that are almost a good document: the same ones for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

__all__ = ["mutated"]

_VALUES: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("inf"), float("nan"), "",
    "x" * 70_000, "../../etc/passwd", "/etc/passwd", "a\x00b", "\ud800", "NUL", "é", [], {}, [[]],
    {"": ""}, "2026-11-24T00:00:00Z", "9999-99-99T99:99:99Z", "1.0.0", "0" * 64, "f" * 65,
)  # fmt: skip
_TOKENS: Final = (
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800",
    b"1e999", b"NaN", b"-0", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"&a ", b"*a", b"<<: ",
    b"!!python/object:os.system ", b"? [a]\n: b\n", b"? {a: b}\n: c\n", b"2026-99-99", b"\n- ",
    b"\t", b": ", b"%YAML 9.9\n", b"--- ", b"0o777", b"1:60:60", b"!!timestamp x", b"!!int x",
    b"!!float x", b"!!binary x", b"=", b"~",
)  # fmt: skip
_LAUGHS: Final = b"a: &a [x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 8)) for name in b"bcdefgh"
)  # YAML that is two million times what it seems
_WHOLE: Final = (
    b"", b"null", b"[]", b"{}", b'""', b"0", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 20_000,
    b"\xef\xbb\xbf{}", b"\x00" * 1000, b"- " * 20_000, _LAUGHS, b"a: &a [*a]\n",
)  # fmt: skip


def mutated(good: bytes, seed: str) -> bytes:
    """A mutation of `good`; at times it is no document at all, at times it is one with a lie."""
    chance = random.Random(seed)  # noqa: S311 - no key
    if chance.random() < 0.02:
        return chance.choice(_WHOLE)
    data = good
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(_WAYS)(data, chance)
    return data


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    return data[:start] + data[start + chance.choice((1, 2, 16, 1000, 10**9)) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    part = data[start : start + chance.choice((1, 8, 200))]
    return data[:start] + part * chance.choice((2, 50)) + data[start:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    return data[:start] + chance.choice(_TOKENS) + data[start:]


def _inside(data: bytes, chance: random.Random) -> bytes:
    """Change one value of a JSON document, wherever it stands."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, chance)
    places = list(_places(document))
    if not places:
        return _insert(data, chance)
    holder, key = chance.choice(places)
    change = chance.randrange(5)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, dict):
        holder[f"{key}s"] = holder.pop(key)
    elif change == 2:
        holder[key] = [holder[key]] * chance.choice((1, 2, 500))
    elif change == 3:
        holder[key] = _deep(chance.choice((50, 500)))
    else:
        holder[key] = chance.choice(_VALUES)
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):
        return data


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < 2000:
        one = waiting.pop()
        keys = (
            list(one) if isinstance(one, dict) else range(len(one) if isinstance(one, list) else 0)
        )
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


_WAYS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    _flip, _cut, _repeat, _insert, _inside, _inside, _inside,
)  # fmt: skip
