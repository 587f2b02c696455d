"""What the terminal can show, and printing to it: width, colours, tables, errors.

    COLUMNS        the width, also where the output is a pipe
    NO_COLOR       no colours (https://no-color.org)
    FORCE_COLOR    colours, also where the output is a pipe

Without a terminal and without COLUMNS a row of a table is one line, for grep and awk.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

import click

import forge
from forge.cli.table import StyledText, Tone, lay_out, tinted
from forge.errors import ForgeError
from forge.github_log import in_actions, inert
from forge.wrapping import printable, shown_width, wrap

__all__ = [
    "HELP_WIDTH",
    "colours",
    "headline",
    "print_error",
    "print_list",
    "print_table",
    "print_text",
    "print_title",
    "tinted",
    "value_text",
]

HELP_WIDTH: Final = 100
"""Lines of help are not wider than this: longer ones are hard to read."""

_PAGE: Final = re.compile(r"\bdocs/[a-z0-9_/-]+\.md\b")
_STYLES: Final[Mapping[Tone, Mapping[str, object]]] = {
    Tone.PLAIN: {},
    Tone.HEADING: {"bold": True},
    Tone.GOOD: {"fg": "green"},
    Tone.WARNING: {"fg": "yellow"},
    Tone.BAD: {"fg": "red", "bold": True},
}


def colours(out: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether `out` gets colours: a terminal does, unless NO_COLOR or TERM=dumb is set."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return environment["FORCE_COLOR"] != "0"
    return out.isatty() and environment.get("TERM") != "dumb"


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | StyledText]],
    *,
    optional: Sequence[str] = (),
    group: str = "",
    empty: str = "",
    out: TextIO | None = None,
) -> None:
    """Print rows in the width of the terminal.

    Args:
        header: titles of the columns; all empty for a list of properties.
        rows: the cells, as many in each row as titles.
        optional: titles of columns that are left out where there is no room for all.
        group: title of the column whose cells become headings where there is no room for columns.
        empty: printed instead of a table without rows.
        out: standard output by default.
    """
    out = out or sys.stdout
    if not rows and empty:
        print_text(empty, out=out)
        return
    for line in lay_out(header, rows, shown_width(out), optional=optional, group=group):
        _print_line(line, out)


def headline(text: str) -> str:
    """Return the first line of a reason, without the colon that announces the others."""
    return next(iter(text.splitlines()), "").rstrip(" :")


def print_title(text: str) -> None:
    """Print a heading to standard output."""
    print_text(text, tone=Tone.HEADING)


def print_list(title: str, items: Sequence[str]) -> None:
    """Print a heading and an item a line below it; nothing without items."""
    if not items:
        return
    print_title(title)
    for item in items:
        for line in wrap(printable(item), shown_width(sys.stdout), "    ", "  - "):
            _print_line([StyledText(line)], sys.stdout)


def print_text(
    text: str, *, indent: str = "", tone: Tone = Tone.PLAIN, out: TextIO | None = None
) -> None:
    """Print a text, wrapped between words; its own line breaks are kept."""
    out = out or sys.stdout
    for line in wrap(printable(text), shown_width(out), indent):
        _print_line([StyledText(line, tone)], out)


def value_text(value: object) -> str:
    """Return a value of a JSON document as a user would write it in YAML; `—` if there is none."""
    match value:
        case None | [] | "":
            return "—"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case dict():  # the pattern {} would match every one
            return ", ".join(f"{key} {value_text(one)}" for key, one in value.items()) or "—"
        case list() | tuple():
            separator = "; " if any(isinstance(one, dict | list) for one in value) else ", "
            return separator.join(value_text(one) for one in value)
    return str(value)


def print_error(error: ForgeError) -> None:
    """Print an error to standard error: what happened, the cause, what to do next.

    A cause of several lines, such as the end of a log, is a block of its own.
    """
    width = shown_width(sys.stderr)
    why = error.why.strip("\n")
    block = "\n" in error.why
    what = error.what if block or not why else f"{error.what}: {why}"
    first, *rest = wrap(printable(f"Error: {what}"), width, "  ", "")
    label = [StyledText("Error:", Tone.BAD), StyledText(first.removeprefix("Error:"))]
    lines: list[Sequence[StyledText]] = [label, *([StyledText(line)] for line in rest)]
    if block:
        lines += [[StyledText(line)] for line in _block(printable(why), width)]
    for hint in _with_pages(printable(error.hint)).splitlines():
        lines += [[StyledText(line, Tone.WARNING)] for line in wrap(hint, width, "    ", "  → ")]
    for line in lines:
        _print_line(line, sys.stderr)


def _with_pages(text: str) -> str:
    """Return a hint whose pages of the documentation are files that can be opened.

    A wheel contains them; elsewhere than in a checkout, `docs/` of the current folder does not.
    """
    return _PAGE.sub(lambda found: _page(found[0]), text)


def _page(name: str) -> str:
    package = Path(forge.__file__).parent
    places = (package / name, package.parent / name)
    found = (str(place) for place in places if place.is_file())
    return name if Path(name).is_file() else next(found, name)


def _block(text: str, width: int | None) -> Iterator[str]:
    """Yield the lines of a cause; what continues a line of a log keeps the bar in front of it."""
    for line in text.splitlines():
        bar = line[: line.index("|") + 1] if line.lstrip().startswith("|") else " "
        rest = line.removeprefix(bar).rstrip()
        own = rest[: len(rest) - len(rest.lstrip())] or " "
        yield from wrap(rest.strip(), width, f"{bar}{own}  ", f"{bar}{own}")


def _print_line(line: Sequence[StyledText], out: TextIO) -> None:
    coloured = colours(out)
    text = "".join(_styled(cell) if coloured else cell.text for cell in line)
    if in_actions(os.environ):  # it may quote what a server or a file says
        text = inert(text)
    click.echo(text, file=out, color=coloured)


def _styled(cell: StyledText) -> str:
    style = _STYLES[cell.tone]
    return click.style(cell.text, **style) if style and cell.text.strip() else cell.text  # type: ignore[arg-type]
