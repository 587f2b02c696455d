"""Break texts between words at the width of a terminal."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TextIO

__all__ = ["cells_wide", "printable", "shortened", "shown_width", "wrap"]

_LEAST_WIDTH: Final = 20


def shown_width(out: TextIO, environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the columns of the terminal that `out` writes to; None: lines may have any length."""
    given = environment.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return max(_LEAST_WIDTH, int(given))
    with contextlib.suppress(OSError, ValueError):
        if out.isatty():
            return max(_LEAST_WIDTH, os.get_terminal_size(out.fileno()).columns or 80)
    return None


def wrap(text: str, width: int | None, indent: str = "", first: str | None = None) -> list[str]:
    """Return the lines of a text, broken between words.

    Args:
        text: its line breaks and the spaces at the start of its lines are kept.
        width: of a line, with its indent; None: only the breaks of the text.
        indent: in front of each line.
        first: in front of the first line instead of `indent`.
    """
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        own = line[: len(line) - len(line.lstrip())]
        before = (indent if lines or first is None else first) + own
        if width is None:
            lines.append((before + line.strip()).rstrip())
        else:
            lines += _wrapped(line.split(), width, before, indent + own)
    return lines


def shortened(text: str, width: int) -> str:
    """Return the words of a text that fit into one line, with a mark for those left out."""
    words = printable(text).split()
    kept: list[str] = []
    for word in words:
        if cells_wide(" ".join([*kept, word])) > width - 2:
            break
        kept.append(word)
    return " ".join(words) if cells_wide(" ".join(words)) <= width else " ".join([*kept, "…"])


def printable(text: str) -> str:
    """Replace control characters but the line break: a cell may quote a server or a file."""
    return "".join(
        one if one == "\n" or unicodedata.category(one)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for one in text.expandtabs(4)
    )


def cells_wide(text: str) -> int:
    """Return the number of columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_cells(one) for one in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _wrapped(words: Sequence[str], width: int, first: str, indent: str) -> Iterator[str]:
    line, used = first, False
    for word in words:
        space = " " if used else ""
        if used and cells_wide(line + space + word) > width:
            yield line
            line, space = indent, ""
        line, used = line + space + word, True
    yield line.rstrip()
