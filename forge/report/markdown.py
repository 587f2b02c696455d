"""The report as Markdown, for the summary of a GitHub job and for a GitHub Release.

Pictures are left out: GitHub shows none that are in the text. Every text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from forge import markdown as syntax
from forge.report import checks, figures
from forge.report.figures import ReportTable, count
from forge.report.report import ProfileReport, ReleaseReport
from forge.wrapping import printable

__all__ = ["MAX_CHARACTERS", "markdown"]

MAX_CHARACTERS: Final = 120_000
"""GitHub takes 125,000 characters as the text of a Release."""

_MENTION: Final = re.compile(r"(?<!\w)@(?=\w)")


def markdown(report: ReleaseReport) -> str:
    """Return the report, at most MAX_CHARACTERS long: what has no room is left out whole."""
    parts = [_head(report), *(part for one in report.profiles for part in _profile(one))]
    checks = "\n".join(_checks(report))
    kept, room = [], MAX_CHARACTERS - len(checks) - 200
    for part in parts:
        room -= len(part) + 1
        if room < 0:
            kept.append("The rest has no room here; the HTML page of the report has all of it.\n")
            break
        kept.append(part)
    return "\n".join([*kept, checks])


def _head(report: ReleaseReport) -> str:
    on = f"on channel {', '.join(report.channels)}" if report.channels else "on no channel"
    yanked = f" **Yanked {_text(report.yanked)}.**" if report.yanked else ""
    found = figures.overview(report)
    return (
        f"## {_text(report.name)} {_text(report.version)}\n\n"
        f"Published, {_text(on)}.{yanked} Everything below was verified from the root with"
        f" SHA-256 `{report.root_sha256}`.\n\n{_table(found)}"
    )


def _profile(one: ProfileReport) -> Iterator[str]:
    yield f"### {_text(one.name)}\n"
    yield f"Measured on: {_text(figures.measured_on(one))}.\n\n{_table(figures.measured(one))}"
    if (gate := figures.gate(one)) is not None:
        yield f"**Gate**\n\n{_table(gate)}"
    else:
        yield f"{figures.gate_missing(one)}\n"
    yield from _folded(f"{count(len(one.history), 'version')} compared", figures.versions(one))
    yield f"**Bytes that a device fetches**\n\n{_table(figures.downloads(one))}"
    yield from _folded("Accuracy by section", figures.accuracy(one))
    yield from _folded("Accuracy gate", figures.accuracy_gate(one))
    yield from _folded("What the manifest says", figures.facts(one))
    yield from _folded("Chain of digests", figures.build_steps(one))
    licences = figures.licences(one)
    total = len(one.sbom.packages) if one.sbom else 0
    yield from _folded(f"Licences of {count(total, 'package')}", licences)
    yield from _folded("Proofs", figures.proofs(one))


def _folded(title: str, found: ReportTable | None) -> Iterator[str]:
    """Yield a table that a click opens; nothing for one that is empty or not known."""
    if found is not None and found.rows:
        inner = f"<details><summary>{_text(title)}</summary>\n\n{_table(found)}\n</details>\n"
        yield inner


def _checks(report: ReleaseReport) -> Iterator[str]:
    yield "### How to check it\n"
    for each in checks.commands(report):
        yield f"- {_text(each.purpose)}\n\n  ```console\n  $ {each.command}\n  ```\n"
    yield _table(checks.metadata(report))


def _table(found: ReportTable) -> str:
    return syntax.table(found.header, [tuple(map(_plain, row)) for row in found.rows])


def _text(text: str) -> str:
    return syntax.escaped(_plain(text))


def _plain(text: str) -> str:
    """Return a text without control characters, in which GitHub finds no user to notify."""
    return _MENTION.sub("@\N{WORD JOINER}", printable(text))
