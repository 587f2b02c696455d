"""Calls of tools in the text of an answer: what forces them, and what finds them. Pure."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from forge.device.gateway.openai.messages import ChatTool, NamedToolChoice, ToolChoice
from forge.serving.sampling import StructuredOutputs

__all__ = ["FORMATS", "CallParser", "ContentDelta", "ToolCallDelta", "Tooling", "format_of"]

FORMATS: Final = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "llama": ("<|python_tag|>", ""),
    "mistral": ("[TOOL_CALLS]", ""),
}
"""The texts before and after calls in the answers of each family of models."""
_FORCED: Final = ("", "")
_BARE: Final = ("forced", "llama")  # the answer may begin with a call and no mark
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


Delta: TypeAlias = ContentDelta | ToolCallDelta


@dataclass(frozen=True)
class Tooling:
    """What a request's tools ask of the model and of its answer."""

    tools: tuple[ChatTool, ...]
    format: str
    forced: bool
    parallel: bool

    @classmethod
    def of(
        cls,
        tools: Sequence[ChatTool],
        tool_choice: ToolChoice | None,
        *,
        parallel: bool | None,
        parser_name: str,
    ) -> Tooling:
        """Return the tooling of a request; the format of calls is one of FORMATS.

        Raises:
            ValueError: the format is unknown, or the choice is of a tool that is not offered.
        """
        if parser_name not in FORMATS:
            raise ValueError(f"{parser_name!r} is not a valid format of tool calls")
        named = tool_choice.function.name if isinstance(tool_choice, NamedToolChoice) else None
        chosen = tuple(tool for tool in tools if named in (None, tool.function.name))
        if tool_choice == "none":
            chosen = ()
        if not chosen and (named is not None or tool_choice == "required"):
            raise ValueError("tool_choice requires a function that is in tools")
        forced = named is not None or tool_choice == "required"
        return cls(chosen, parser_name, forced, parallel is not False and named is None)

    @property
    def structured_outputs(self) -> StructuredOutputs | None:
        """The form that makes the answer a list of calls; None where text is allowed."""
        if not self.forced:
            return None
        calls = [_call_schema(tool, index) for index, tool in enumerate(self.tools)]
        schema: dict[str, Any] = {"type": "array", "items": {"anyOf": calls}, "minItems": 1}
        if not self.parallel:
            schema["maxItems"] = 1
        return StructuredOutputs(json=schema)

    def parser(self) -> CallParser:
        """Return a parser for one answer."""
        names = frozenset(tool.function.name for tool in self.tools)
        return CallParser("forced" if self.forced else self.format, names, parallel=self.parallel)


def format_of(chat_template: str) -> str | None:
    """Return the format of calls that a chat template writes; None if it has none."""
    if "tools" not in chat_template:
        return None
    if "<tool_call>" in chat_template:
        return "hermes"
    if "[TOOL_CALLS]" in chat_template:
        return "mistral"
    bare = "<|python_tag|>" in chat_template or '"parameters":' in chat_template
    return "llama" if bare else None


class CallParser:
    """Finds calls in an answer that comes in pieces; text that is not a call stays content."""

    def __init__(self, style: str, names: frozenset[str], *, parallel: bool) -> None:
        self._opening, self._closing = FORMATS.get(style, _FORCED)
        self._bare = style in _BARE
        self._starts = ("{", "[") if style == "forced" else ("{",)
        self._names = names
        self._most = None if parallel else 1
        self._held = ""
        self._mark = ""  # what was dropped before the object under way
        self._inside = False  # between the mark and the end of the calls
        self._arguments: _Value | None = None  # of the call under way
        self._calls = 0

    @property
    def called(self) -> bool:
        """Whether the answer has a call."""
        return self._calls > 0

    def feed(self, text: str) -> list[Delta]:
        """Return what is certain after this piece."""
        self._held += text
        return self._drain(last=False)

    def finish(self) -> list[Delta]:
        """Return what was held; the answer has ended."""
        return self._drain(last=True)

    def _drain(self, *, last: bool) -> list[Delta]:
        found: list[Delta] = []
        while self._step(found, last=last):
            pass
        return found

    def _step(self, found: list[Delta], *, last: bool) -> bool:
        """Take one part off what is held; return whether to continue."""
        if self._arguments is not None:
            return self._argue(found, self._arguments)
        return self._object(found, last=last) if self._inside else self._text(found, last=last)

    def _text(self, found: list[Delta], *, last: bool) -> bool:
        blank = not self._held.strip()
        if self._bare and blank and not last:
            return False
        if self._bare and self._held.lstrip().startswith(self._starts):
            self._inside, self._bare = True, False
            return True
        at = self._held.find(self._opening) if self._opening else -1
        if at >= 0:
            self._say(found, self._held[:at])
            self._mark = self._opening
            self._held, self._inside = self._held[at + len(self._opening) :], True
            self._bare = False
            return True
        kept = 0 if last else _overlap(self._held, self._opening)
        ready = self._held[: len(self._held) - kept]
        self._held = self._held[len(ready) :]
        self._bare = self._bare and not ready
        self._say(found, ready)
        return False

    def _object(self, found: list[Delta], *, last: bool) -> bool:
        rest = self._held.lstrip(_BETWEEN + "}" if self.called else _BETWEEN)
        if self._closing and rest.startswith(self._closing):
            self._say(found, "" if self._mark else self._closing)  # it closes text, not a call
            self._held, self._inside, self._mark = rest[len(self._closing) :], False, ""
            return True
        if not rest.startswith("{"):
            return self._end(found, rest, last=last)
        head = _HEAD.match(rest)
        if head is not None and json.loads(head[1]) in self._names:
            self._held, self._arguments = rest[head.end() :], _Value()
            self._open(found, json.loads(head[1]))
            return True
        size = _Value().take(rest)
        if size is None:
            if last:
                self._say(found, self._mark + self._held)
                self._held = ""
            return False
        self._whole(found, rest[:size])
        self._held = rest[size:]
        return True

    def _end(self, found: list[Delta], rest: str, *, last: bool) -> bool:
        """Leave the calls at text that begins none."""
        if (not last and self._closing.startswith(rest)) or (not rest and self.called):
            return False
        self._held = rest if self.called else self._mark + self._held
        self._say(found, self._held)
        self._held, self._inside, self._mark = "", False, ""
        return False

    def _open(self, found: list[Delta], name: str, arguments: str = "") -> None:
        self._calls += 1
        if self._most is None or self._calls <= self._most:
            identity = f"call_{secrets.token_hex(12)}"
            found.append(ToolCallDelta(self._calls - 1, arguments, identity, name))

    def _argue(self, found: list[Delta], arguments: _Value) -> bool:
        size = arguments.take(self._held)
        part = self._held if size is None else self._held[:size]
        self._held = self._held[len(part) :]
        if part and (self._most is None or self._calls <= self._most):
            found.append(ToolCallDelta(self._calls - 1, part))
        if size is None:
            return False
        self._arguments = None
        return True

    def _whole(self, found: list[Delta], text: str) -> None:
        """Give an object that is complete: a call, or text as it came."""
        try:
            call = json.loads(text)
        except (ValueError, RecursionError):
            call = {}
        name = call.get("name")
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(name, str) and name in self._names and isinstance(arguments, dict):
            self._open(found, name, json.dumps(arguments, ensure_ascii=False))
        else:
            self._say(found, self._mark + text)
            self._mark = ""

    @staticmethod
    def _say(found: list[Delta], text: str) -> None:
        if text:
            found.append(ContentDelta(text))


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


def _call_schema(tool: ChatTool, index: int) -> dict[str, Any]:
    place = f"#/items/anyOf/{index}/properties/arguments"
    arguments = _moved(tool.function.parameters or {"type": "object"}, place)
    return {
        "type": "object",
        "properties": {"name": {"const": tool.function.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """Return a schema whose references within itself hold at its new place."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, place) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved
