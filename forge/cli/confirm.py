"""Ask before a command does what cannot be taken back, or is likely a mistyped name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from forge.cli.terminal import print_text
from forge.errors import UsageError

__all__ = ["confirm", "confirm_new_channel", "yes_option"]

_F = TypeVar("_F", bound=Callable[..., Any])


def yes_option(function: _F) -> _F:
    """Add `--yes` to a command."""
    return click.option(
        "--yes", "-y", is_flag=True, help="Do not ask; required where there is no terminal."
    )(function)


def confirm(question: str, effects: Sequence[str] = (), *, yes: bool) -> None:
    """Show what a command will do, and ask whether to do it. All of it goes to standard error.

    Args:
        question: ends with a question mark.
        effects: what will happen, a line each; shown with `--yes`, too.
        yes: the answer was given on the command line.

    Raises:
        UsageError: the answer is not yes, or there is no terminal to ask.
    """
    for line in effects:
        print_text(line, out=sys.stderr)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"Not confirmed: {question}",
            why="there is no terminal to ask",
            hint="if it is intended, add --yes",
        )
    if not click.confirm(question, err=True):
        raise UsageError("Not confirmed", why="nothing was changed")


def confirm_new_channel(
    channel: str, bundle: str, known: Sequence[str], version: str, *, yes: bool
) -> None:
    """Ask before a channel is created, since a mistyped name creates one.

    Args:
        channel: the name given.
        bundle: the bundle.
        known: channels that the bundle has.
        version: the version that the channel will point to.
        yes: the answer was given on the command line.

    Raises:
        UsageError: the answer is not yes, or there is no terminal to ask.
    """
    if channel in known:
        return
    others = f"its channels: {', '.join(known)}" if known else "it has no channel yet"
    confirm(
        f"Create the channel {channel} of {bundle} for {version}?",
        [f"{bundle} has no channel {channel}; {others}"],
        yes=yes,
    )
