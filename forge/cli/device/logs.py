"""`forge device logs`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from forge.cli.common import json_option, print_json
from forge.cli.device.options import state_option
from forge.errors import ConfigurationError, UsageError
from forge.github_log import inert
from forge.wrapping import printable

__all__ = ["logs"]

_EVERY_S: Final = 0.5


@click.command()
@click.option("--server", is_flag=True, help="Log of Triton of the slot that serves.")
@click.option("--slot", type=click.Choice(("a", "b")), help="Log of Triton of this slot.")
@click.option("--compile", "compiled", is_flag=True, help="Log of the last engine compilation.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 100_000),
    default=100,
    show_default=True,
    help="Number of the last lines to show.",
)
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines until Ctrl-C.")
@state_option
@json_option
def logs(
    lines: int,
    slot: Literal["a", "b"] | None,
    state: Path,
    *,
    server: bool,
    compiled: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the log of the agent, of Triton, or of an engine compilation.

    The agent keeps its last 2 to 4 MiB in the state folder, also where systemd or a container
    collects its standard error.

    \b
    forge device logs
    forge device logs --follow
    forge device logs --server --lines 500
    """  # noqa: D301
    from forge.device.telemetry import log_files

    if follow and as_json:
        raise UsageError("--json prints a result, and --follow does not end with one")
    if server + compiled + (slot is not None) > 1:
        raise UsageError("Choose one of --server, --slot and --compile")
    files = _files(state, slot, server=server, compiled=compiled)
    if follow:
        # Ctrl-C is how it ends: there is nothing to resume.
        with contextlib.suppress(KeyboardInterrupt):
            _follow(files, lines)
        return
    with _readable():
        found = log_files.tail(files, lines)
    if as_json:
        print_json({"file": str(files[-1]), "lines": found})
        return
    if not found and not files[-1].exists():
        click.echo(f"No log yet: {files[-1]} does not exist.", err=True)
    _print(found)


def _follow(files: tuple[Path, ...], lines: int) -> None:
    from forge.device.telemetry import log_files

    follower = log_files.Follower(files[-1])
    with _readable():
        _print(follower.tail(files, lines))
        while True:
            time.sleep(_EVERY_S)
            _print(follower.lines())


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Raise ConfigurationError for a log that cannot be read."""
    try:
        yield
    except BrokenPipeError:
        raise  # of what it is printed to
    except OSError as error:
        hint = "run it as the user of the agent: sudo -u forge forge device logs"
        raise ConfigurationError("The log cannot be read", why=str(error), hint=hint) from None


def _files(state: Path, slot: str | None, *, server: bool, compiled: bool) -> tuple[Path, ...]:
    from forge.device.state.directory import StateDirectory
    from forge.device.telemetry import log_files

    home = StateDirectory(state)
    if compiled:
        return (home.logs / "compile.log",)
    if server and (slot := home.journal().active) is None:
        raise UsageError("No slot serves", hint="forge device logs shows the log of the agent")
    return (
        (home.logs / f"slot-{slot}" / "triton.log",) if slot else log_files.agent_files(home.logs)
    )


def _print(lines: list[str]) -> None:
    """Print lines as they are, without control characters; Triton's may quote anything."""
    for line in lines:
        sys.stdout.write(f"{inert(printable(line))}\n")
    sys.stdout.flush()
