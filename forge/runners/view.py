"""Display the progress of a run: one Protocol, three implementations.

A terminal gets live progress (rich), GitHub Actions gets folded groups, anything else plain lines.
All three are thread-safe. The commands of steps are shown where their output is: in the folded
groups, and with --verbose.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from forge import github_log
from forge.progress import Throttle
from forge.wrapping import shortened, shown_width, wrap

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["GitHubView", "PlainView", "RichView", "View", "choose"]


_PROGRESS_S: Final = 10.0
_BESIDE_STEP: Final = 14


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

    def progress(self, step_id: str, text: str) -> None:
        """Report how far a step is; called often, and a view may leave some out."""

    @property
    def shows_output(self) -> bool:
        """Return whether what a command prints is displayed as a whole."""

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Report that a step has finished and its outputs are stored."""

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Report that a step failed."""

    def live(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager for the whole run."""


class PlainView:
    """One line per event, flushed, for logs and pipes."""

    def __init__(
        self,
        out: TextIO,
        *,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._verbose = verbose
        self._clock = clock
        self._lock = threading.Lock()
        self._throttles: dict[str, Throttle] = {}

    @property
    def shows_output(self) -> bool:
        """Return whether the view is verbose."""
        return self._verbose

    def _print(self, text: str) -> None:
        with self._lock:
            print(text, file=self._out, flush=True)

    def _print_wrapped(self, text: str) -> None:
        self._print("\n".join(wrap(text, shown_width(self._out), "    ", "")))

    def _is_due(self, step_id: str) -> bool:
        with self._lock:
            known = self._throttles.get(step_id)
            throttle = self._throttles.setdefault(step_id, Throttle(_PROGRESS_S, self._clock))
            due = throttle.due()
        return due and known is not None  # what takes less than 10 seconds has no progress

    def hit(self, step_id: str, reason: str) -> None:
        """Print the step and where its result came from."""
        self._print_wrapped(f"= {step_id}: {reason}")

    def started(self, step_id: str, command: str) -> None:
        """Print the step, and its command if verbose."""
        self._print(f"▶ {step_id}" + (f"\n  + {command}" if self._verbose else ""))

    def line(self, step_id: str, text: str) -> None:
        """Print the line if verbose; the log of the step contains it in any case."""
        if self._verbose:
            self._print(f"  {step_id} | {text}")

    def note(self, step_id: str, text: str) -> None:
        """Print the note."""
        self._print_wrapped(f"  {step_id}: {text}")

    def progress(self, step_id: str, text: str) -> None:
        """Print the progress, but not more often than every 10 seconds."""
        if self._is_due(step_id):
            self._print_wrapped(f"  {step_id}: {text}")

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Print time and outputs."""
        self._print_wrapped(f"✔ {step_id} {seconds:.1f} s {summary}")

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Print the error."""
        self._print_wrapped(f"✘ {step_id} {seconds:.1f} s {summary}")

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

    @property
    def shows_output(self) -> bool:
        """Return True: the groups hold it."""
        return True

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
    """A spinner with elapsed time and the progress or the last line of each running step."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._width = shown_width(out) or 80
        self._console = Console(file=out, highlight=False, width=self._width)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[last]}"),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    @property
    def shows_output(self) -> bool:
        """Return False: only the last line is displayed."""
        return False

    def _print(self, text: str, style: str = "") -> None:
        lines = wrap(text, self._width, "    ", "")
        # Styles are names of this module; the text is never markup.
        self._console.print("\n".join(lines), markup=False, soft_wrap=True, style=style)

    def hit(self, step_id: str, reason: str) -> None:
        """Print the step and where its result came from."""
        self._print(f"= {step_id}: {reason}")

    def started(self, step_id: str, command: str) -> None:  # noqa: ARG002 - only with --verbose
        """Start the spinner of the step."""
        if step_id in self._tasks:
            return  # its tools were installed
        self._tasks[step_id] = self._progress.add_task(step_id, total=None, last="")

    def line(self, step_id: str, text: str) -> None:
        """Show the line next to the spinner."""
        if step_id in self._tasks:
            # Spinner, step and elapsed time are on the same line.
            room = self._width - len(step_id) - _BESIDE_STEP
            last = shortened(text, room).replace("[", r"\[") if room > _BESIDE_STEP else ""
            self._progress.update(self._tasks[step_id], last=last)

    def note(self, step_id: str, text: str) -> None:
        """Print the note."""
        self._print(f"  {step_id}: {text}")

    def progress(self, step_id: str, text: str) -> None:
        """Show the progress next to the spinner, which a note before the command starts as well."""
        if step_id not in self._tasks:
            self.started(step_id, "")
        self.line(step_id, text)

    def finished(self, step_id: str, seconds: float, summary: str) -> None:
        """Replace the spinner with a line."""
        self._end(step_id, f"✔ {step_id} {seconds:.1f} s {summary}", "green")

    def failed(self, step_id: str, seconds: float, summary: str) -> None:
        """Replace the spinner with a line."""
        self._end(step_id, f"✘ {step_id} {seconds:.1f} s {summary}", "bold red")

    def _end(self, step_id: str, text: str, style: str) -> None:
        if step_id in self._tasks:
            self._progress.remove_task(self._tasks.pop(step_id))
        self._print(text, style)

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
