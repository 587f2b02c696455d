"""The chain of digests as SVG: a row for each document or step, an arc from what it is made of.

Rows below each other have room for their names on a telephone too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from forge.report.report import BuildStep, ProfileReport, ReleaseReport
from forge.report.svg import document, element, escaped, shortened, text
from forge.trust.layout import BUNDLES, CHANNELS

__all__ = ["ChainRow", "arcs", "build_rows", "trust_rows"]

_WIDTH: Final = 400
_AXIS: Final = 96  # of the dots
_TITLE_PX, _LINE_PX, _GAP_PX = 17, 15, 12
_TITLE_CHARS, _LINE_CHARS = 33, 42
_SHORT: Final = 12  # characters of a digest that are enough to find it


@dataclass(frozen=True, slots=True)
class ChainRow:
    """A row.

    Attributes:
        name: in bold.
        lines: below it.
        sources: numbers of the rows that it is made from, or signed by.
        strong: whether a device gets it.
    """

    name: str
    lines: tuple[str, ...] = ()
    sources: tuple[int, ...] = ()
    strong: bool = False

    @property
    def height(self) -> int:
        """Return the height of the row in px."""
        return _TITLE_PX + _LINE_PX * len(self.lines) + _GAP_PX


def arcs(title: str, rows: Sequence[ChainRow]) -> str:
    """Return the picture of some rows; empty without any."""
    if not rows:
        return ""
    tops = [0, *accumulate(row.height for row in rows)]
    parts = [
        *(part for number, row in enumerate(rows) for part in _edges(number, row, tops)),
        *(part for number, row in enumerate(rows) for part in _row(row, tops[number])),
    ]
    return document(_WIDTH, tops[-1], title, parts)


def _edges(number: int, row: ChainRow, tops: Sequence[int]) -> Iterator[str]:
    end = tops[number] + _TITLE_PX - 5
    style = "arc strong" if row.strong else "arc"
    for source in row.sources:
        start = tops[source] + _TITLE_PX - 5
        bulge = min(18 + 0.3 * abs(end - start), _AXIS - 10)
        left = _AXIS - bulge / 0.75  # a cubic curve goes three quarters of the way
        path = f"M{_AXIS},{start} C{left:.0f},{start} {left:.0f},{end} {_AXIS - 6},{end}"
        yield element("path", d=path, class_=style)
    if row.sources:
        head = f"M{_AXIS - 11},{end - 4} L{_AXIS - 4},{end} L{_AXIS - 11},{end + 4} z"
        yield element("path", d=head, class_="head strong" if row.strong else "head")


def _row(row: ChainRow, top: int) -> Iterator[str]:
    y = top + _TITLE_PX
    hint = element("title", escaped("\n".join((row.name, *row.lines))))
    style = "node strong" if row.strong else "node"
    yield element("circle", hint, cx=_AXIS, cy=y - 5, r=4, class_=style)
    yield text(_AXIS + 14, y, shortened(row.name, _TITLE_CHARS), "name")
    for number, line in enumerate(row.lines, 1):
        yield text(_AXIS + 14, y + number * _LINE_PX, shortened(line, _LINE_CHARS), "mono")


def build_rows(profile: ProfileReport) -> list[ChainRow]:
    """Return the steps of a profile, each below those whose outputs it takes."""
    makers = {
        digest: number
        for number, step in reversed(list(enumerate(profile.steps)))
        for digest in step.outputs.values()
    }
    shipped = {profile.manifest.tree.digest, profile.manifest.proofs.digest}
    return [_step(number, step, makers, shipped) for number, step in enumerate(profile.steps)]


def _step(number: int, step: BuildStep, makers: dict[str, int], shipped: set[str]) -> ChainRow:
    taken = {makers[one] for one in (step.inputs or {}).values() if one in makers}
    outputs = (f"{name} {digest[:_SHORT]}" for name, digest in step.outputs.items())
    return ChainRow(
        step.step,
        tuple(outputs),
        tuple(sorted(one for one in taken if one < number)),
        strong=not shipped.isdisjoint(step.outputs.values()),
    )


def trust_rows(report: ReleaseReport, profile: ProfileReport) -> list[ChainRow]:
    """Return what signs or names what, from the root of trust to the files of a device."""
    roles = {one.role: one for one in report.roles}
    rows: list[ChainRow] = []
    at: dict[str, int] = {}

    def add(key: str, name: str, *lines: str, by: Sequence[str] = (), strong: bool = False) -> None:
        at[key] = len(rows)
        sources = tuple(sorted(at[one] for one in by if one in at))
        rows.append(ChainRow(name, lines, sources, strong))

    def metadata(role: str, *by: str) -> None:
        if role in roles:
            found = roles[role]
            add(role, f"{role} {found.version}", f"valid to {found.expires:%Y-%m-%d}", by=by)

    add(
        "first", "first root", f"sha256 {report.root_sha256[:_SHORT]}", "in a device from the start"
    )
    metadata("root", "first")
    metadata("timestamp", "root")
    metadata("snapshot", "root", "timestamp")
    metadata("targets", "root", "snapshot")
    metadata(BUNDLES, "targets", "snapshot")
    metadata(CHANNELS, "targets", "snapshot")
    manifest = profile.manifest
    add("manifest", f"manifest of {profile.name}", f"sha256 {profile.manifest_sha256[:_SHORT]}",
        by=(BUNDLES, CHANNELS) if report.channels else (BUNDLES,))  # fmt: skip
    for key, name, tree in (
        ("tree", "files of the bundle", manifest.tree),
        ("proofs", "proofs", manifest.proofs),
    ):
        add(key, name, f"tree {tree.digest[:_SHORT]}", by=("manifest",), strong=True)
    return rows
