"""Run the demo's commands, and print its summary table."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from forge.cli.common import bytes_text
from forge.cli.terminal import print_table

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".forge" / "demo"
# The demo's own keys, next to their passphrase; an earlier demo made them in .forge/keys.
OLD_KEYS = ROOT / ".forge" / "keys"
KEYS = OLD_KEYS if (OLD_KEYS / "keys.json").is_file() else WORK / "keys"
FORGE = str(Path(sys.executable).parent / "forge")
NAME, PROFILE, CHANNEL = "smollm2", "development", "stable"
QUESTION = "What is the capital of France?"


@dataclass
class Row:
    """One line of the last table."""

    link: str
    went_in: str
    came_out: str
    seconds: str
    size: str


@dataclass
class Table:
    """What each link did."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self, link: str, went_in: str, came_out: str, seconds: float | str, size: int | str
    ) -> None:
        """Append a line."""
        text = seconds if isinstance(seconds, str) else f"{seconds:.1f}"
        size = size if isinstance(size, str) else bytes_text(size) if size else "—"
        self.rows.append(Row(link, went_in, came_out, text, size))

    def show(self) -> None:
        """Print the table."""
        header = ("link", "what went in", "what came out", "seconds", "size")
        rows = [(r.link, r.went_in, r.came_out, r.seconds, r.size) for r in self.rows]
        print_table(header, rows)


def title(text: str) -> None:
    """Print the heading of a section."""
    click.echo(click.style(f"\n── {text} ", bold=True) + "─" * max(0, 72 - len(text)))


def say(text: str) -> None:
    """Print a text."""
    click.echo(text)
    sys.stdout.flush()


def show(*words: str) -> None:
    """Print a command as a person would type it."""
    say(click.style(f"$ {' '.join(words)}", fg="cyan"))


def forge(environment: dict[str, str], *arguments: str, capture: bool = False) -> str:
    """Run one command, shown as a person would type it. Raises CalledProcessError."""
    show("forge", *arguments)
    process = subprocess.Popen(
        [FORGE, *arguments], env=environment, stdout=subprocess.PIPE if capture else None, text=True
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        # The terminal sent it Ctrl-C too; it ends its own children first, and that takes a moment.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        end(process)
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, f"forge {arguments[0]}")
    return output or ""


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a command to end and wait until it has ended all that it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
