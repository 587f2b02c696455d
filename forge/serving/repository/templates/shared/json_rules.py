# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""The rules of a grammar in XGrammar's EBNF. Pure."""

from __future__ import annotations

import json
import re

from json_patterns import Ranges, complement
from turns import RequestError

MAX_BYTES = 256 * 1024
PLAIN = complement(((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)))  # what a string holds as it is
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile("[0-9A-Za-z]")


class Rules:
    """Named rules; equal bodies are one rule."""

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.size = 0

    def add(self, body: str) -> str:
        """Return the name of a rule."""
        if body not in self.names:
            name = self.reserve()
            self.define(name, body)
            self.names[body] = name
        return self.names[body]

    def reserve(self) -> str:
        """Return the name of a rule that is defined later, for one that contains itself."""
        name = f"r{len(self.bodies)}"
        self.bodies[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        """Set the body of a rule. Raises RequestError for too large a grammar."""
        self.bodies[name] = body
        self.size += len(name) + len(body.encode()) + 6
        if self.size > MAX_BYTES:
            reason = f"its grammar is longer than {MAX_BYTES} bytes; make the schema smaller"
            raise RequestError(f"structured_outputs: the JSON schema is too large: {reason}")

    def text(self, root: str) -> str:
        """Return the grammar."""
        rules = (f"{name} ::= {body}" for name, body in self.bodies.items())
        return "\n".join((f"root ::= {root}", *rules))


def literal(text: str) -> str:
    """Return a text as a grammar has it."""
    # Without escapes of \\u: XGrammar reads an escaped surrogate pair as two characters.
    return json.dumps(text, ensure_ascii=False)


def json_text(value: object) -> str:
    """Return a value as an answer has it: one space after a comma and a colon."""
    text = json.dumps(value, ensure_ascii=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def characters(ranges: Ranges) -> str:
    """Return a set of characters."""
    if ranges == PLAIN:
        return '[^"\\\\\\u0000-\\u001f]'
    parts = (_code(low) if low == high else f"{_code(low)}-{_code(high)}" for low, high in ranges)
    return f"[{''.join(parts)}]"


def choice(options: list[str]) -> str:
    """Return one of several expressions, in brackets where it is needed."""
    found = list(dict.fromkeys(options))
    return found[0] if len(found) == 1 else f"({' | '.join(found)})"


def repeat(expression: str, least: int, most: int | None) -> str:
    """Return an expression several times; `most` None: without end."""
    if most == 0:
        return '""'
    if (least, most) == (1, 1):
        return expression
    known = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    count = f"{least}" if least == most else f"{least},{'' if most is None else most}"
    return f"({expression})" + known.get((least, most), f"{{{count}}}")


def _code(code: int) -> str:
    if _PLAIN.fullmatch(chr(code)):
        return chr(code)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
