"""Calls of tools in the text of an answer, which may come in pieces. Pure."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = [
    "FORCED",
    "FORMATS",
    "CallDelta",
    "CallParser",
    "ContentDelta",
    "ToolCallDelta",
    "WholeAnswer",
    "WholeCall",
    "whole_answer",
]

FORMATS: Final = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "llama": ("<|python_tag|>", ""),
    "mistral": ("[TOOL_CALLS]", ""),
}
"""The texts before and after calls in the answers of each family of models."""
FORCED: Final = "forced"
"""The format of an answer that a grammar makes a list of calls."""
_UNMARKED: Final = ("", "")
_FIRST: Final = re.compile(r'\{\s*("[^"]*"|[^\s"])')
_KEYS: Final = {f'"{key}"' for key in ("name", "arguments", "parameters", "type", "id", "function")}
_BETWEEN: Final = " \t\r\n[],;"
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_HEAD: Final = re.compile(
    rf'\{{\s*"name"\s*:\s*({_STRING})\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)'
)


@dataclass(frozen=True)
class ContentDelta:
    """Text of the answer that is not a call."""

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """A part of a call; id and name are in its first one only."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


CallDelta: TypeAlias = ContentDelta | ToolCallDelta


@dataclass(frozen=True)
class WholeCall:
    """A call that is complete, or as far as the answer went."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class WholeAnswer:
    """An answer's text and its calls."""

    content: str
    calls: tuple[WholeCall, ...]


class CallParser:
    """Finds calls in an answer that comes in pieces; text that is not a call stays content.

    An answer may also begin with a call and no mark: a decoder leaves out marks that are special
    tokens. Only calls of functions that the request offers count.

    Args:
        style: one of FORMATS, or FORCED.
        names: the functions that may be called.
        parallel: whether there may be more calls than one; otherwise others are dropped.
    """

    def __init__(self, style: str, names: frozenset[str], *, parallel: bool) -> None:
        self._opening, self._closing = FORMATS.get(style, _UNMARKED)
        # An object alone is an answer of the form that was asked for, where calls are a list.
        self._starts = ("[",) if style == FORCED else ("{", "[")
        self._names = names
        self._most = None if parallel else 1
        self._held = ""
        self._skipped = ""  # what is dropped if a call follows
        self._begun = False  # there was text or a mark
        self._called_last = False  # there was no text after the last call
        self._inside = False  # where the next object may be a call
        self._arguments: _Value | None = None  # of the call under way
        self._calls = 0

    @property
    def called(self) -> bool:
        """Whether the answer has a call."""
        return self._calls > 0

    def feed(self, text: str) -> list[CallDelta]:
        """Return what is certain after this piece."""
        self._held += text
        return self._drain(last=False)

    def finish(self) -> list[CallDelta]:
        """Return what was held; the answer has ended."""
        return self._drain(last=True)

    def _drain(self, *, last: bool) -> list[CallDelta]:
        found: list[CallDelta] = []
        while self._step(found, last=last):
            pass
        return found

    def _step(self, found: list[CallDelta], *, last: bool) -> bool:
        """Take one part off what is held; return whether to continue."""
        if self._arguments is not None:
            return self._argue(found, self._arguments)
        return self._object(found, last=last) if self._inside else self._text(found, last=last)

    def _text(self, found: list[CallDelta], *, last: bool) -> bool:
        stripped = self._held.lstrip()
        if self._called_last and (stripped or last):
            self._held = stripped  # blanks between calls and after them are no content
        marked = self._opening.startswith(stripped[: len(self._opening)]) and bool(self._opening)
        if not self._begun and not marked and stripped.startswith(self._starts):
            self._enter("")
            return True
        at = self._held.find(self._opening) if self._opening else -1
        if at >= 0:
            before = self._held[:at]
            self._say(found, before if before.strip() else "")
            self._held = self._held[at + len(self._opening) :]
            self._enter(self._opening)
            return True
        kept = 0 if last else _overlap(self._held, self._opening)
        ready = self._held[: len(self._held) - kept]
        if ready.strip() or last or (self._begun and not self._called_last):
            self._held = self._held[len(ready) :]
            self._say(found, ready)
        return False

    def _enter(self, mark: str) -> None:
        self._inside, self._begun, self._skipped = True, True, mark

    def _object(self, found: list[CallDelta], *, last: bool) -> bool:
        rest = self._held.lstrip(_BETWEEN + "}" if self.called else _BETWEEN)
        if self._closing and rest.startswith(self._closing) and self.called:
            self._held, self._inside = rest[len(self._closing) :], False
            return True
        if not rest.startswith("{"):
            return self._end(found, rest, last=last)
        head = _HEAD.match(rest)
        if head is not None and json.loads(head[1]) in self._names:
            self._held, self._arguments = rest[head.end() :], _Value()
            self._open(found, json.loads(head[1]))
            return True
        return self._other_object(found, rest, last=last)

    def _other_object(self, found: list[CallDelta], rest: str, *, last: bool) -> bool:
        """Take an object that does not begin as most calls do: another order, or no call."""
        first = _FIRST.match(rest)
        size = _Value().take(rest)
        if size is None and not last and (first is None or first[1] in _KEYS):
            return False
        call = None if size is None else self._whole(rest[:size])
        if call is None:
            return self._leave(found)
        self._open(found, *call)
        self._held = rest[size:]
        return True

    def _end(self, found: list[CallDelta], rest: str, *, last: bool) -> bool:
        """Leave the calls at text that begins none."""
        if not last and self._closing.startswith(rest):
            return False
        if self.called:
            self._held, self._inside = rest, False
            return bool(rest)
        return self._leave(found)

    def _leave(self, found: list[CallDelta]) -> bool:
        """Give what is held as the text that it is."""
        self._inside = False
        at = self._held.find("{") + 1  # a mark may follow
        self._say(found, self._skipped + self._held[:at])
        self._held, self._skipped = self._held[at:], ""
        return bool(self._held)

    def _open(self, found: list[CallDelta], name: str, arguments: str = "") -> None:
        self._calls += 1
        self._skipped, self._called_last = "", True
        if self._most is None or self._calls <= self._most:
            identity = f"call_{secrets.token_hex(12)}"
            found.append(ToolCallDelta(self._calls - 1, arguments, identity, name))

    def _argue(self, found: list[CallDelta], arguments: _Value) -> bool:
        size = arguments.take(self._held)
        part = self._held if size is None else self._held[:size]
        self._held = self._held[len(part) :]
        if part and (self._most is None or self._calls <= self._most):
            found.append(ToolCallDelta(self._calls - 1, part))
        if size is None:
            return False
        self._arguments = None
        return True

    def _whole(self, text: str) -> tuple[str, str] | None:
        """Return name and arguments of an object that is a call; None for another one."""
        try:
            call = json.loads(text)
        except (ValueError, RecursionError):
            return None
        name = call.get("name")
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(name, str) and name in self._names and isinstance(arguments, dict):
            return name, json.dumps(arguments, ensure_ascii=False)
        return None

    def _say(self, found: list[CallDelta], text: str) -> None:
        if text:
            self._begun, self._called_last = True, False
            found.append(ContentDelta(text))


def whole_answer(parser: CallParser, text: str) -> WholeAnswer:
    """Return the text and the calls of a complete answer."""
    deltas = [*parser.feed(text), *parser.finish()]
    parts = [one for one in deltas if isinstance(one, ToolCallDelta)]
    calls = (
        WholeCall(
            head.id,
            head.name or "",
            "".join(one.arguments for one in parts if one.index == head.index),
        )
        for head in parts
        if head.id is not None
    )
    content = "".join(one.text for one in deltas if isinstance(one, ContentDelta))
    return WholeAnswer(content, tuple(calls))


class _Value:
    """The end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self.depth, self.quoted, self.escaped = 0, False, False

    def take(self, text: str) -> int | None:
        """Return the size of the part of the text that ends the object; None if it continues."""
        for at, one in enumerate(text):
            if self.quoted:
                self.quoted = self.escaped or one != '"'
                self.escaped = one == "\\" and not self.escaped
            elif one == '"':
                self.quoted = True
            elif one in "{[":
                self.depth += 1
            elif one in "}]":
                self.depth -= 1
                if self.depth == 0:
                    return at + 1
        return None


def _overlap(text: str, mark: str) -> int:
    """Return how many last characters of the text may begin the mark."""
    sizes = range(min(len(text), len(mark) - 1), 0, -1)
    return next((size for size in sizes if mark.startswith(text[-size:])), 0)
