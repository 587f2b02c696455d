"""`forge device run`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, print_json
from forge.cli.device.options import Rate, gpu_option, profile_option, state_option
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.device.telemetry.history import EventListener
    from forge.device.telemetry.logs import LogFormat, LogLevel

__all__ = ["run"]


@click.command()
@click.option("--once", is_flag=True, help="Install what the channel offers, probe it, and exit.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the API.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port of the API; 0: any free port, which `forge device status` shows.",
)
@click.option(
    "--api-keys-file",
    "keys_file",
    envvar="FORGE_API_KEYS_FILE",
    type=click.Path(path_type=Path),
    help="File of API keys, a line each: name and SHA-256. Required unless --host is a loopback "
    "address.",
)
@click.option(
    "--without-api-keys",
    "open_to_all",
    is_flag=True,
    help="Serve requests without an API key; for a proxy in front of the API that checks them.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    help="Origin of web pages that may use the API, such as https://app.example.com; repeatable. "
    "*: any.",
)
@click.option(
    "--answer-s",
    type=click.FloatRange(min=1, max=3600),
    default=300.0,
    show_default=True,
    help="Time limit from a request to the end of its response, seconds.",
)
@click.option(
    "--poll-s",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between two checks of the channel.",
)
@click.option(
    "--events",
    help="Write each event as a line of JSON to this file; - for stdout. At 16 MiB the file is "
    "renamed to FILE.1, which replaces the previous one.",
)
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    envvar="FORGE_LOG_FORMAT",
    help="Format of the log on stderr; json: an object a line.",
)
@click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="info",
    show_default=True,
    envvar="FORGE_LOG_LEVEL",
    help="Least level of the messages that are logged.",
)
@click.option(
    "--verify-days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    envvar="FORGE_VERIFY_DAYS",
    help="Days between two readings of all files of the slots in the background, which is also "
    "done after each boot; 0: never.",
)
@click.option(
    "--verify-rate",
    type=Rate(),
    default="20M",
    show_default=True,
    envvar="FORGE_VERIFY_RATE",
    help="Read them at no more than this many bytes per second, e.g. 500k or 20M.",
)
@profile_option
@gpu_option
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
    log_format: LogFormat,
    log_level: LogLevel,
    profile: str | None,
    gpu: str | None,
    state: Path,
    once: bool,
    as_json: bool,
    open_to_all: bool,
    cors_origins: tuple[str, ...],
    verify_days: float,
    verify_rate: int,
) -> None:
    """Run the device agent: install updates, verify and probe them, serve, roll back on failure.

    \b
    forge device run
    forge device run --once          # for cron
    forge device run --events -      # JSON lines on standard output
    forge device run --log-format json
    """  # noqa: D301
    from forge.device import commands, daemon
    from forge.device.agent.weights_reader import ReadingSchedule
    from forge.device.gateway.config import GatewayConfig
    from forge.device.telemetry import logs

    if as_json and not once:
        hint = "for events as JSON lines: forge device run --events -"
        raise UsageError("--json prints a result, and only --once ends with one", hint=hint)
    logs.configure(log_format, log_level)
    with contextlib.ExitStack() as opened:
        daemon.run(
            state,
            once=once,
            profile=profile,
            gpu=commands.check_gpu(gpu),
            gateway_config=GatewayConfig(
                host, port, keys_file, open_to_all, answer_s, cors_origins=cors_origins
            ),
            poll_s=poll_s,
            events=_listener(events, opened) if events else None,
            schedule=ReadingSchedule(verify_rate, verify_days * 86_400),
        )
    if as_json:
        print_json(commands.status(state).model_dump(mode="json"))


def _listener(target: str, opened: contextlib.ExitStack) -> EventListener:
    from forge.device.telemetry.history import EventFile, stream

    if target == "-":
        return stream(sys.stdout.buffer)
    try:
        return opened.enter_context(contextlib.closing(EventFile(Path(target)))).write
    except OSError as error:
        raise UsageError(f"{target} cannot be written", why=str(error)) from None
