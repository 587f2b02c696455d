"""Write a report into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError
from forge.files import write_durably
from forge.report.html import html
from forge.report.markdown import markdown
from forge.report.report import ReleaseReport

__all__ = ["HTML_FILE", "MARKDOWN_FILE", "WrittenReport", "write_report"]

HTML_FILE: Final = "index.html"
MARKDOWN_FILE: Final = "report.md"


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report on disk.

    Attributes:
        page: the HTML file.
        markdown: the Markdown file.
        text: its content.
        proofs: copies of the proofs, SHA256SUMS last; empty if they were not asked for.
    """

    page: Path
    markdown: Path
    text: str
    proofs: tuple[Path, ...] = ()


def write_report(report: ReleaseReport, folder: Path) -> WrittenReport:
    """Write index.html and report.md, replacing those that are there.

    Raises ConfigurationError if the folder cannot be written.
    """
    page, text = html(report), markdown(report)
    try:
        write_durably(folder / MARKDOWN_FILE, text.encode())
        write_durably(folder / HTML_FILE, page.encode())
    except OSError as error:
        raise ConfigurationError(
            f"The report cannot be written to {folder}",
            why=str(error.strerror),
            hint="use another folder: -o DIR",
        ) from None
    return WrittenReport(folder / HTML_FILE, folder / MARKDOWN_FILE, text)
