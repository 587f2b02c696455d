"""Markdown as GitHub shows it, of texts that nothing is known about: tables and escaping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["escaped", "table"]

_MAX_ROWS: Final = 500
_MAX_CELL: Final = 300
_ESCAPES: Final = (
    ("\\", "\\\\"),
    ("|", r"\|"),
    ("&", "&amp;"),
    ("<", "&lt;"),
    ("*", r"\*"),
    ("`", r"\`"),
    ("[", r"\["),
)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the text of a cell is escaped, so that it cannot end the cell."""
    lines = [_line(header), _line(["---"] * len(header)), *map(_line, rows[:_MAX_ROWS])]
    if len(rows) > _MAX_ROWS:
        lines.append(f"\n… and {len(rows) - _MAX_ROWS} more")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return a text as one line of at most 300 characters without markup, links and HTML."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= _MAX_CELL else flat[: _MAX_CELL - 1] + "…"
    for plain, written in _ESCAPES:
        short = short.replace(plain, written)
    return short


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"
