"""Boxes, bands and arrows as SVG text: what the diagrams of docs/explanation are drawn with.

The same drawing gives the same bytes on every machine, so a test can hold a picture equal to its
source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Box", "Drawing"]

INK, FAINT, WHITE = "#1f2933", "#52606d", "#ffffff"
TITLE_PX, NOTE_PX, LINE_PX = 14, 12, 16
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of notes below it."""

    x: float
    y: float
    width: float
    height: float
    title: str
    notes: tuple[str, ...] = ()
    fill: str = WHITE
    dashed: bool = False

    @property
    def left(self) -> Point:
        """Middle of the left edge."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> Point:
        """Middle of the right edge."""
        return self.x + self.width, self.y + self.height / 2

    def top(self, share: float = 0.5) -> Point:
        """A point of the upper edge."""
        return self.x + self.width * share, self.y

    def bottom(self, share: float = 0.5) -> Point:
        """A point of the lower edge."""
        return self.x + self.width * share, self.y + self.height


@dataclass
class Drawing:
    """SVG elements in the order they are painted."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def band(self, y: float, height: float, label: str, fill: str, label_y: float = 22) -> None:
        """Draw a background over the whole width with a label at its left."""
        self._rect(Box(10, y, self.width - 20, height, "", fill=fill), radius=10, stroke="none")
        self._text((24, y + label_y), label, size=TITLE_PX, anchor="start", fill=FAINT)

    def box(self, box: Box) -> Box:
        """Draw a box; returns it for the arrows."""
        self._rect(box, radius=6, stroke=INK)
        middle = box.x + box.width / 2
        lines = 1 + len(box.notes)
        y = box.y + box.height / 2 - (lines - 1) * LINE_PX / 2 + 5
        self._text((middle, y), box.title, size=TITLE_PX, bold=True)
        for number, note in enumerate(box.notes, 1):
            self._text((middle, y + number * LINE_PX), note, size=NOTE_PX, fill=FAINT)
        return box

    def arrow(self, points: Sequence[Point], label: str = "", *, at: Point | None = None) -> None:
        """Draw a line through `points` that ends in an arrow head."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5" '
            'marker-end="url(#head)"/>'
        )
        if label and at:
            self._text(at, label, size=NOTE_PX, fill=FAINT, anchor="start")

    def note(self, at: Point, text: str) -> None:
        """Write a line of text."""
        self._text(at, text, size=NOTE_PX, fill=FAINT, anchor="start")

    def render(self) -> str:
        """Return the whole document."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            'font-family="DejaVu Sans, Verdana, Arial, sans-serif">\n'
            f"<title>{escape(self.title)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
            f'markerHeight="8" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="{INK}"/></marker>'
            "</defs>\n"
            f'<rect width="{self.width}" height="{self.height}" fill="{WHITE}"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"

    def _rect(self, box: Box, *, radius: int, stroke: str) -> None:
        dash = ' stroke-dasharray="5 4"' if box.dashed else ""
        self.parts.append(
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
            f'rx="{radius}" fill="{box.fill}" stroke="{stroke}" stroke-width="1.2"{dash}/>'
        )

    def _text(
        self,
        at: Point,
        text: str,
        *,
        size: int,
        bold: bool = False,
        anchor: str = "middle",
        fill: str = INK,
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{at[0]:g}" y="{at[1]:g}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{fill}"{weight}>{escape(text)}</text>'
        )
