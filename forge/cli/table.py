"""Lay out tables and texts for a terminal of a given width.

Lines break between words and never in one. A word that is longer than a line, such as a URL or a
path, gets a line of its own, so that it can be copied in one piece. A table that is too wide for
columns is printed as one block for each row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from forge.wrapping import cells_wide, printable, wrap

__all__ = ["StyledText", "Tone", "lay_out", "tinted"]

_GAP: Final = 2
# The least width of a column of wrapped text; without room for it a table is printed in blocks.
_LEAST_TEXT: Final = 18
# Without a terminal a row is one line; a longer cell than this does not widen its column.
_MOST_PADDING: Final = 48


class Tone(Enum):
    """What a cell says, for its colour."""

    PLAIN = "plain"
    HEADING = "heading"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class StyledText:
    """A cell with a tone."""

    text: str
    tone: Tone = Tone.PLAIN


_TONES: Final = {
    Tone.GOOD: ("ok", "hit", "same", "equal", "intact", "active", "found", "passed"),
    Tone.WARNING: ("missing", "warning", "due", "waits", "skipped", "repaired", "left over"),
    Tone.BAD: ("wrong", "differs", "damaged", "expired", "failed", "none here", "refused"),
}

Line = Sequence[StyledText]
"""The pieces of one printed line, from left to right."""


@dataclass(frozen=True, slots=True)
class _Table:
    header: Sequence[StyledText]
    rows: Sequence[Sequence[StyledText]]

    @property
    def all_rows(self) -> Sequence[Sequence[StyledText]]:
        """Return the header, unless it is empty, and the rows."""
        titled = any(cell.text for cell in self.header)
        return [self.header, *self.rows] if titled else self.rows

    def without(self, titles: Sequence[str]) -> _Table:
        """Return the table without some of its columns."""
        kept = [n for n, cell in enumerate(self.header) if cell.text not in titles]
        rows = [[row[n] for n in kept] for row in self.rows]
        return _Table([self.header[n] for n in kept], rows)

    def natural(self) -> list[int]:
        """Return the width of each column without wrapping."""
        return [_widest(column, str.splitlines) for column in self._columns()]

    def words(self) -> list[int]:
        """Return the width of the longest word in each column."""
        return [_widest(column, str.split) for column in self._columns()]

    def content(self) -> list[int]:
        """Return the width of each column without wrapping and without its title."""
        return [_widest(column, str.splitlines) for column in self._columns(self.rows)]

    def _columns(self, rows: Sequence[Sequence[StyledText]] | None = None) -> list[list[str]]:
        rows = self.all_rows if rows is None else rows
        return [[row[n].text for row in rows] for n in range(len(self.header))]


def lay_out(
    header: Sequence[str],
    rows: Sequence[Sequence[str | StyledText]],
    width: int | None,
    *,
    optional: Sequence[str] = (),
    group: str = "",
) -> Iterator[Line]:
    """Yield the lines of a table.

    Args:
        header: titles of the columns; all empty for a list of properties, which gets no title line.
        rows: the cells; a line break in a cell starts a new line in it.
        width: columns of the terminal; None: each row is one line.
        optional: titles of columns that are left out where there is no room for all.
        group: title of the column whose cells become headings where there is no room for columns;
            its rows are next to each other.
    """
    table = _Table(
        [StyledText(text, Tone.HEADING) for text in header],
        [[_clean(cell) for cell in row] for row in rows],
    )
    if width is None:
        yield from _one_line_each(table)
        return
    for narrower in (table, *(table.without(optional[: n + 1]) for n in range(len(optional)))):
        if widths := _column_widths(narrower, width):
            yield from _columns(narrower, widths)
            return
    if group:
        yield from _groups(table, list(header).index(group), width)
    elif any(header):
        yield from _blocks(table, width)
    else:
        yield from _properties(table, width)


def tinted(state: str) -> StyledText:
    """Return a cell for the name of a state, in the tone of that state."""
    tones = (tone for tone, states in _TONES.items() if state in states)
    return StyledText(state, next(tones, Tone.PLAIN))


def _widest(texts: Sequence[str], split: Callable[[str], list[str]]) -> int:
    return max((cells_wide(part) for text in texts for part in split(text)), default=0)


def _clean(cell: str | StyledText) -> StyledText:
    if isinstance(cell, StyledText):
        return StyledText(printable(cell.text), cell.tone)
    return StyledText(printable(cell))


def _column_widths(table: _Table, width: int) -> list[int] | None:
    """Return the widths of the columns, or None if there is no room for columns."""
    natural, words = table.natural(), table.words()
    room = width - _GAP * (len(natural) - 1)
    if sum(natural) <= room:
        return natural
    texts = [min(whole, _LEAST_TEXT) for whole in table.content()]
    least = list(map(max, words, texts))
    if sum(least) > room:
        return None
    widths = least
    # What is left goes to the narrowest column that still has text to wrap.
    for _ in range(room - sum(least)):
        wanting = [n for n, wide in enumerate(widths) if wide < natural[n]]
        if not wanting:
            break
        widths[min(wanting, key=lambda n: widths[n])] += 1
    return widths


def _columns(table: _Table, widths: Sequence[int]) -> Iterator[Line]:
    for row in table.all_rows:
        wrapped = [wrap(cell.text, wide) for cell, wide in zip(row, widths, strict=True)]
        for number in range(max(map(len, wrapped))):
            texts = [lines[number] if number < len(lines) else "" for lines in wrapped]
            yield _line(texts, [cell.tone for cell in row], widths)


def _one_line_each(table: _Table) -> Iterator[Line]:
    widths = [min(wide, _MOST_PADDING) for wide in table.natural()]
    for row in table.all_rows:
        texts = [" ".join(cell.text.split("\n")) for cell in row]
        yield _line(texts, [cell.tone for cell in row], widths)


def _line(texts: Sequence[str], tones: Sequence[Tone], widths: Sequence[int]) -> Line:
    """Return the pieces of a line; nothing follows its last text."""
    last = max((n for n, text in enumerate(texts) if text), default=-1)
    pieces = []
    for number, (text, tone) in enumerate(zip(texts[: last + 1], tones, strict=False)):
        pieces.append(StyledText(text, tone))
        if number < last:
            pieces.append(StyledText(" " * (max(0, widths[number] - cells_wide(text)) + _GAP)))
    return pieces


def _groups(table: _Table, column: int, width: int) -> Iterator[Line]:
    """Yield the rows below each cell of a column: labels with their texts."""
    for number, (name, rows) in enumerate(itertools.groupby(table.rows, lambda row: row[column])):
        if number:
            yield []
        yield from ([StyledText(line, Tone.HEADING)] for line in wrap(name.text, width))
        rest = [[cell for n, cell in enumerate(row) if n != column] for row in rows]
        yield from _properties(
            _Table([StyledText("")] * (len(table.header) - 1), rest), width, "  "
        )


def _blocks(table: _Table, width: int) -> Iterator[Line]:
    """Yield a block for each row: its first cells as a heading, and a line for each other cell."""
    titles = [cell.text for cell in table.header]
    if not table.rows:
        yield [StyledText("  ".join(titles), Tone.HEADING)]
    label = max((cells_wide(title) for title in titles[1:]), default=0)
    for number, row in enumerate(table.rows):
        if number:
            yield []
        named = next((n for n, cell in enumerate(row) if titles[n] and cell.text), 0)
        for line in wrap(row[named].text, width):
            yield [StyledText(line, Tone.HEADING)]
        for title, cell in zip(titles, row, strict=True):
            if cell.text and cell is not row[named]:
                yield from _property(title, cell, label, width, "  ")


def _properties(table: _Table, width: int, indent: str = "") -> Iterator[Line]:
    label = max((cells_wide(row[0].text) for row in table.rows), default=0)
    for row in table.rows:
        for cell in row[1:]:
            yield from _property(row[0].text, cell, label, width, indent)


def _property(title: str, cell: StyledText, label: int, width: int, indent: str) -> Iterator[Line]:
    """Yield `title  text`; a text with a word that is too long for that starts on the next line."""
    before = indent + title.ljust(label) + " " * _GAP
    room = width - cells_wide(before)
    if any(cells_wide(word) > room for word in cell.text.split()):
        yield [StyledText(indent + title)]
        yield from ([StyledText(line, cell.tone)] for line in wrap(cell.text, width, indent + "  "))
        return
    for number, line in enumerate(wrap(cell.text, room)):
        yield [
            StyledText(before if number == 0 else " " * cells_wide(before)),
            StyledText(line, cell.tone),
        ]
