"""`forge device run`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, print_json
from forge.cli.device.options import profile_option, state_option
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.device.events import Tell

__all__ = ["run"]


@click.command()
@click.option("--once", is_flag=True, help="Install what the channel offers, probe it, and end.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the API listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0: any free one; `forge device status` shows it.",
)
@click.option(
    "--api-keys-file",
    "keys_file",
    envvar="FORGE_API_KEYS_FILE",
    type=click.Path(path_type=Path),
    help="Lines of a name and the SHA-256 of a key; needed where others than this machine can ask.",
)
@click.option(
    "--without-api-keys",
    "open_to_all",
    is_flag=True,
    help="Let strangers ask without a key: something in front of the API checks them.",
)
@click.option(
    "--answer-s",
    type=click.FloatRange(min=1, max=3600),
    default=300.0,
    show_default=True,
    help="Longest time from a question to the end of its answer.",
)
@click.option(
    "--poll-s",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between two looks at the channel.",
)
@click.option(
    "--events",
    help="Write every event as a line of JSON to this file; - for stdout. At 16 MiB it becomes "
    "FILE.1, in the place of the one before.",
)
@profile_option
@state_option
@json_option
def run(
    host: str,
    port: int,
    keys_file: Path | None,
    answer_s: float,
    poll_s: float,
    *,
    events: str | None,
    profile: str | None,
    state: Path,
    once: bool,
    as_json: bool,
    open_to_all: bool,
) -> None:
    """Be the device's agent: update, prove, serve, go back if it is bad.

    \b
    forge device run
    forge device run --once          # for cron
    forge device run --events -      # JSON lines on standard output
    """  # noqa: D301
    from forge.device import commands
    from forge.device.door import Door

    if as_json and not once:
        hint = "events as JSON lines: forge device run --events -"
        raise UsageError("--json prints a result, and only --once ends with one", hint=hint)
    with contextlib.ExitStack() as opened:
        commands.run(
            state,
            once=once,
            profile=profile,
            door=Door(host, port, keys_file, open_to_all, answer_s),
            poll_s=poll_s,
            events=_listener(events, opened) if events else None,
        )
    if as_json:
        print_json(commands.status(state).model_dump(mode="json"))


def _listener(target: str, opened: contextlib.ExitStack) -> Tell:
    from forge.device.events import EventFile, stream

    if target == "-":
        return stream(sys.stdout.buffer)
    try:
        return opened.enter_context(contextlib.closing(EventFile(Path(target)))).tell
    except OSError as error:
        raise UsageError(f"{target} cannot be written", why=str(error)) from None
