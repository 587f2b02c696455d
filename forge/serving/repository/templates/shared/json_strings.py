# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Strings of an answer as rules: of any text, of a length, of a regular expression. Pure.

How a rule is written decides how fast XGrammar is (measured with 49,152 tokens, 2026-11-29). It
computes the mask of each place in a rule once, 16 ms for a character of any text, and checks tokens
that leave the rule again for each token of the answer. A string without an end that is one rule
which calls itself costs 0.1 ms for a token; one rule for a character, repeated, 30 ms, and 600 ms
if it is counted to 256. Counted characters are therefore blocks of 32, which all lengths share.
"""

from __future__ import annotations

from json_patterns import Chars, Choice, Node, Repeat, complement, has, union
from json_rules import PLAIN, Rules, characters, choice, literal, repeat

BLOCK = 32
MAX_LENGTH = 4096
_QUOTED: dict[int, str] = {
    0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\",
}  # fmt: skip
_ESCAPED = (*((one, one) for one in (0x22, 0x5C)), (0, 0x1F))
# Surrogates are left out: two of them are one character, and one alone is none.
ESCAPE = '(["\\u005c/bfnrt] | "u" ([0-9A-CE-Fa-ce-f] [0-9A-Fa-f]{3} | [Dd] [0-7] [0-9A-Fa-f]{2}))'
_FEW = 64  # characters that are written one by one

_DAY = (
    r"(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8])"
)
_LEAP = r"(?:[1-9]\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29"
_DATE = rf"(?:[1-9]\d{{3}}-(?:{_DAY})|{_LEAP})"
_HOUR = r"(?:[01]\d|2[0-3]):[0-5]\d"
_TIME = rf"{_HOUR}:[0-5]\d(?:\.\d{{1,6}})?(?:Z|[+-]{_HOUR})"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}\.[A-Za-z]{{2,8}}"
FORMATS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": r"^P(?:\d{1,4}D|\d{1,4}W|(?:\d{1,4}D)?T\d{1,4}(?:H|M|S|H\d{1,2}M(?:\d{1,2}S)?))$",
    "email": rf"^[A-Za-z0-9_+-]{{1,20}}(?:\.[A-Za-z0-9_+-]{{1,20}}){{0,2}}@{_HOST}$",
    "hostname": f"^{_HOST}$",
    "ipv4": rf"^{_BYTE}(?:\.{_BYTE}){{3}}$",
    "ipv6": r"^(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$",
    "uri": rf"^https?://{_HOST}(?:/[A-Za-z0-9._~-]{{1,30}}){{0,8}}/?$",
    "uuid": r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
}
"""Formats as regular expressions: each text is one of the format, and not every one is answered."""


class Strings:
    """Strings of one grammar."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.chains: dict[tuple[str, str, int], str] = {}
        self.loops: dict[str, str] = {}

    def text(self, least: int = 0, most: int | None = None) -> str:
        """Return any string of a length, quoted."""
        return f'"\\"" {self.content(least, most)} "\\""'

    def content(self, least: int = 0, most: int | None = None) -> str:
        """Return any text of a length, as it is inside of quotes."""
        body = f'{characters(PLAIN)} | "\\\\" {self.rules.add(ESCAPE)}'
        return self._counted(body, least, most)

    def name(self, taken: tuple[str, ...], most: int) -> str | None:
        """Return the text of a name that is not taken, of characters that need no escape."""
        plain = (one for one in taken if all(has(PLAIN, ord(character)) for character in one))
        return self._other_than(frozenset(plain), 1, most)

    def _other_than(self, taken: frozenset[str], least: int, most: int) -> str | None:
        """Return a text that is none of these: a character that begins none, or a shorter rest."""
        taken = frozenset(one for one in taken if len(one) <= most)
        if not taken:
            return self._counted(characters(PLAIN), least, most)
        options = [] if least or "" in taken else ['""']
        if most:
            begins = sorted({one[0] for one in taken if one})
            codes = tuple((ord(one), ord(one)) for one in begins)
            others = characters(complement(union(complement(PLAIN), codes)))
            options.append(f"{others} {self._up_to(characters(PLAIN), most - 1)}")
            for begin in begins:
                rest = frozenset(one[1:] for one in taken if one[:1] == begin)
                following = self._other_than(rest, 0, most - 1)
                options += [f"{literal(begin)} {following}"] if following else []
        return self.rules.add(choice(options)) if options else None

    def matching(self, node: Node) -> str | None:
        """Return a string of a regular expression, quoted; None if there is none."""
        content = self._node(node)
        return None if content is None else f'"\\"" {content} "\\""'

    def _node(self, node: Node) -> str | None:
        if isinstance(node, Chars):
            body = _body(node)
            return body and (f"({body})" if " | " in body else body)
        if isinstance(node, Repeat):
            return self._repeat(node)
        if isinstance(node, Choice):
            options = [self._node(one) for one in node.options]
            found = [one for one in options if one is not None]
            return choice(found) if found else None
        parts = [self._node(one) for one in node.parts]
        if None in parts:
            return None
        return " ".join(one for one in parts if one != '""') or '""'

    def _repeat(self, node: Repeat) -> str | None:
        if isinstance(node.node, Chars):
            body = _body(node.node)
            if body is not None:
                return self._counted(body, node.least, node.most)
        body = self._node(node.node)
        if body is None:
            return None if node.least else '""'
        if body == '""':
            return body
        return repeat(self.rules.add(body), node.least, node.most)

    def _counted(self, body: str, least: int, most: int | None) -> str:
        """Return a character several times."""
        exact = self._exactly(body, least)
        more = self._loop(body) if most is None else self._up_to(body, most - least)
        return " ".join(one for one in (exact, more) if one != '""') or '""'

    def _loop(self, body: str) -> str:
        if body not in self.loops:
            name = self.rules.reserve()
            self.loops[body] = name
            self.rules.define(name, _followed(body, name, ends=True))
        return self.loops[body]

    def _exactly(self, body: str, count: int) -> str:
        blocks, rest = divmod(count, BLOCK)
        parts = [repeat(self._chain("exactly", body, BLOCK), blocks, blocks)] if blocks else []
        parts += [self._chain("exactly", body, rest)] if rest else []
        return " ".join(parts) or '""'

    def _up_to(self, body: str, count: int) -> str:
        blocks, rest = divmod(count, BLOCK)
        if not blocks:
            return self._chain("up to", body, rest)
        block = self._chain("exactly", body, BLOCK)
        full = [repeat(block, blocks, blocks)] + [self._chain("up to", body, rest)] * (rest > 0)
        less = f"{repeat(block, 0, blocks - 1)} " * (blocks > 1)
        less += self._chain("up to", body, BLOCK - 1)
        return self.rules.add(f"{less} | {' '.join(full)}")

    def _chain(self, kind: str, body: str, count: int) -> str:
        """Return a rule of one character that calls the rule of one less."""
        if count == 0:
            return '""'
        key = kind, body, count
        if key not in self.chains:
            less = self._chain(kind, body, count - 1)
            self.chains[key] = self.rules.add(_followed(body, less, ends=kind == "up to"))
        return self.chains[key]


def _followed(body: str, rule: str, *, ends: bool) -> str:
    options = [f"{one} {rule}".removesuffix(' ""') for one in body.split(" | ")]
    return " | ".join(['""'] * ends + options)


def _body(node: Chars) -> str | None:
    """Return the alternatives of a character as a string has it; None if there are none."""
    plain = complement(union(complement(node.ranges), complement(PLAIN)))
    options = [characters(plain)] if plain else []
    codes = [code for low, high in _ESCAPED for code in range(low, high + 1)]
    inside = sorted({code for code in codes if has(node.ranges, code)})
    short = [_QUOTED[code] for code in inside if code in _QUOTED]
    options += [literal(f"\\{one}") for one in short]
    if not options or len(inside) < len(_QUOTED):
        options += [literal(f"\\u{code:04x}") for code in inside if code not in _QUOTED]
    return " | ".join(options) or None
