"""The job summary of GitHub Actions: Markdown tables in the file that GITHUB_STEP_SUMMARY names.

Only the environment decides, as in `forge.runners.view.choose`: elsewhere nothing is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["append", "markdown"]

_MAX_ROWS: Final = 500
_MAX_CELL: Final = 300
_MAX_BYTES: Final = 1024 * 1024  # GitHub drops the whole summary of a step above this


def append(
    environment: Mapping[str, str],
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> None:
    """Add a table to the job summary, if there is one. Never fails a command that succeeded."""
    name = environment.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    text = f"### {_cell(title)}\n\n{markdown(header, rows)}\n".encode()
    with contextlib.suppress(OSError), Path(name).open("ab") as file:
        if file.tell() + len(text) <= _MAX_BYTES:
            file.write(text)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the text of a cell is escaped, so that it cannot end the cell."""
    lines = [_line(header), _line(["---"] * len(header)), *map(_line, rows[:_MAX_ROWS])]
    if len(rows) > _MAX_ROWS:
        lines.append(f"\n… and {len(rows) - _MAX_ROWS} more")
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    flat = " ".join(text.split())
    short = flat if len(flat) <= _MAX_CELL else flat[: _MAX_CELL - 1] + "…"
    for plain, escaped in (
        ("\\", "\\\\"),
        ("|", r"\|"),
        ("&", "&amp;"),
        ("<", "&lt;"),
        ("*", r"\*"),
    ):
        short = short.replace(plain, escaped)
    return short.replace("`", r"\`").replace("[", r"\[")
