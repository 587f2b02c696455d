"""Display the progress of a run: one Protocol, three implementations.

A terminal gets live progress (rich), GitHub Actions gets folded groups, anything else plain lines.
All three are thread-safe.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from forge.runners import github_log

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["GitHubView", "PlainView", "RichView", "View", "choose"]


class View(Protocol):
    """Receives the events of a run."""

    def hit(self, step_id: str, reason: str) -> None:
        """Report a step whose result was in the store."""

    def started(self, step_id: str, command: str) -> None:
        """Report that a command was started."""

    def line(self, step_id: str, text: str) -> None:
        """Report a line that a command printed."""

    def note(self, step_id: str, text: str) -> None:
        """Report a message of Forge about a step."""

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Report that a step has finished and its outputs are stored."""

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Report that a step failed."""

    def live(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager for the whole run."""


class PlainView:
    """One line per event, flushed, for logs and pipes."""

    def __init__(self, out: TextIO, *, verbose: bool = False) -> None:
        self._out = out
        self._verbose = verbose
        self._lock = threading.Lock()

    def _print(self, text: str) -> None:
        with self._lock:
            print(text, file=self._out, flush=True)

    def hit(self, step_id: str, reason: str) -> None:
        """Print the step and where its result came from."""
        self._print(f"= {step_id}: {reason}")

    def started(self, step_id: str, command: str) -> None:
        """Print the command."""
        self._print(f"▶ {step_id}\n  + {command}")

    def line(self, step_id: str, text: str) -> None:
        """Print the line if verbose; the log of the step contains it in any case."""
        if self._verbose:
            self._print(f"  {step_id} | {text}")

    def note(self, step_id: str, text: str) -> None:
        """Print the note."""
        self._print(f"  {step_id}: {text}")

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Print time and outputs."""
        self._print(f"✔ {step_id} {seconds:.1f} s {summary}")

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Print the error."""
        self._print(f"✘ {step_id} {seconds:.1f} s {summary}")

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Do nothing."""
        yield


class GitHubView(PlainView):
    """A folded group for each step: its lines are printed together when it ends.

    What a step prints, and what Forge says about it, never is a command of GitHub's log.
    """

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._lines: dict[str, list[str]] = {}

    def started(self, step_id: str, command: str) -> None:
        """Open the step's group."""
        self._lines[step_id] = [f"+ {command}"]

    def line(self, step_id: str, text: str) -> None:
        """Keep the line for the group."""
        self._lines.setdefault(step_id, []).append(text)

    def _print(self, text: str) -> None:
        super()._print(github_log.inert(text))

    def _group(self, title: str, step_id: str) -> None:
        lines = github_log.inert("\n".join(self._lines.pop(step_id, [])))
        self._command(f"::group::{github_log.escape(title)}\n{lines}\n::endgroup::")

    def _command(self, text: str) -> None:
        super()._print(text)

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Print the whole group, folded."""
        self._group(f"✔ {step_id} {seconds:.1f} s {summary}", step_id)

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Print the group and an error annotation, which GitHub shows on the page of the run."""
        self._group(f"✘ {step_id} {seconds:.1f} s", step_id)
        title, message = github_log.escape_property(step_id), github_log.escape(summary)
        self._command(f"::error title={title}::{message}")


class RichView:
    """A spinner with elapsed time and the last line of each running step."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(file=out, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[last]}"),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def hit(self, step_id: str, reason: str) -> None:
        """Print the step and where its result came from."""
        self._print(f"= {step_id}: {reason}")

    def started(self, step_id: str, command: str) -> None:
        """Print the command and start its spinner."""
        self._print(f"▶ {step_id}\n  + {command}")
        self._tasks[step_id] = self._progress.add_task(step_id, total=None, last="")

    def line(self, step_id: str, text: str) -> None:
        """Show the line next to the spinner."""
        if step_id in self._tasks:
            last = text.strip().replace("[", r"\[")[:100]
            self._progress.update(self._tasks[step_id], last=last)

    def note(self, step_id: str, text: str) -> None:
        """Print the note."""
        self._print(f"  {step_id}: {text}")

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Replace the spinner with a line."""
        self._end(step_id, f"✔ {step_id} {seconds:.1f} s {summary}")

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Replace the spinner with a line."""
        self._end(step_id, f"✘ {step_id} {seconds:.1f} s {summary}")

    def _end(self, step_id: str, text: str) -> None:
        if step_id in self._tasks:
            self._progress.remove_task(self._tasks.pop(step_id))
        self._print(text)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Draw the spinners during the body."""
        with self._progress:
            yield


def choose(out: TextIO, environment: Mapping[str, str], *, verbose: bool = False) -> View:
    """Return the view for GitHub Actions, a terminal, or anything else."""
    if github_log.in_actions(environment):
        return GitHubView(out)
    if out.isatty() and not verbose and environment.get("TERM") != "dumb":
        return RichView(out)
    return PlainView(out, verbose=verbose)
