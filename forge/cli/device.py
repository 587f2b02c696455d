"""`forge device provision|run|status|detect|power|rollback|history|verify`."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forge.cli.common import json_option, open_project, print_json, print_table, project_option
from forge.errors import ConfigurationError, StepFailedError, UsageError

if TYPE_CHECKING:
    from forge.device.events import Tell
    from forge.device.power import PowerReport
    from forge.device.report import DeviceStatus
    from forge.profiles import Profile

__all__ = ["device"]

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default="/var/lib/forge",
    envvar="FORGE_STATE",
    show_default=True,
    help="The device's state folder.",
)
_profile_option = click.option(
    "--profile", envvar="HARDWARE_PROFILE", help="Profile by name instead of by the hardware."
)


@click.group()
def device() -> None:
    """Provision, run and inspect a device.

    \b
    forge device provision --store https://bundles.example/prod --root root.json --name llm
    forge device run
    forge device status --json
    """  # noqa: D301


class Rate(click.ParamType[int]):
    """Bytes a second: a number, with k, M or G for 1000, 1000² or 1000³ times as many."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        from forge.device.slots import LEAST_RATE

        found = re.fullmatch(r"(\d{1,12})([kKMG]?)", str(value))
        rate = int(found[1]) * _UNITS[found[2].lower()] if found else 0
        if rate < LEAST_RATE:
            self.fail(f"{value!r} is not a rate of 1024 or more, like 500k or 2M", param, ctx)
        return rate


@device.command()
@click.option("--store", "store_url", required=True, envvar="FORGE_STORE", help="The store's URL.")
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    help="Another place of the same store, asked where --store fails. May be repeated.",
)
@click.option("--limit-rate", type=Rate(), help="The most bytes a second for updates: 500k, 2M.")
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The trusted root.json, brought here by a way you trust.",
)
@click.option("--name", required=True, help="Name of the bundle.")
@click.option("--channel", default="stable", show_default=True, help="Channel to follow.")
@_profile_option
@_state_option
@json_option
def provision(
    *,
    store_url: str,
    mirrors: tuple[str, ...],
    limit_rate: int | None,
    root: Path,
    name: str,
    channel: str,
    profile: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """Write down where updates come from and whom to trust. May be repeated.

    \b
    forge device provision --store s3://bundles/prod --root root.json --name smollm2
    forge device provision --store https://bundles.example.com/prod \\
      --mirror https://plant.example.com/prod --limit-rate 2M --root root.json --name smollm2
    """  # noqa: D301
    from forge.device import commands

    made = commands.provision(
        state, store_url, root.read_bytes(), name, channel, profile,
        mirrors=mirrors, limit_rate=limit_rate,
    )  # fmt: skip
    if as_json:
        print_json({"state": str(state), **made.model_dump(mode="json")})
        return
    click.echo(f"{state} follows {made.name} {made.channel} from {made.store_url}")
    click.echo(f"next: forge device run --state {state}")


@device.command()
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
@_profile_option
@_state_option
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


@device.command()
@_state_option
@json_option
def status(state: Path, *, as_json: bool) -> None:
    """Say what the device serves, what it last looked at, and every rollback with its reason.

    \b
    forge device status
    forge device status --json
    """  # noqa: D301
    from forge.device import commands

    found = commands.status(state)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    agent = found.agent
    look = agent.look if agent else None
    rows = [
        ("follows", f"{found.name} {found.channel} from {found.store_url}"),
        *_places(found),
        ("state", found.state),
        ("serves", f"{found.release} from slot {found.slot}" if found.release else "nothing yet"),
        ("agent", f"pid {agent.pid}, {agent.url or 'no API'}" if agent else "not running"),
    ]
    if look:
        rows.append(("last look", f"{look.at} {look.error or look.offered or ''}"))
        rows += [("does not fit", refusal) for refusal in look.refusals]
        rows += [("warning", warning) for warning in look.warnings]
    rows += [("went back", f"{one.at} {one.release}: {one.reason}") for one in found.rollbacks]
    if found.previous:
        rows.append(("can go back to", str(found.previous)))
    if found.held:
        rows.append(("held back", f"{found.held.release}: {found.held.reason}"))
    print_table(("", ""), rows)


def _places(found: DeviceStatus) -> list[tuple[str, str]]:
    """Rows of the store and its mirrors, with what the running agent knows of them."""
    if not found.mirrors:
        return []
    seen = dict(enumerate(found.look.places)) if found.look else {}
    rows = []
    for number, url in enumerate((found.store_url, *found.mirrors)):
        known = seen.get(number)
        failed = f" (failed {known.failures} times in a row)" if known and known.failures else ""
        served = " (served last)" if known and known.served_last else ""
        rows.append(("mirror" if number else "store", f"{url}{served}{failed}"))
    return rows


@device.command()
@_profile_option
@project_option
@json_option
def detect(profile: str | None, project_dir: Path | None, *, as_json: bool) -> None:
    """Say what this machine is and which of the project's profiles is meant for it.

    \b
    forge device detect
    """  # noqa: D301
    from forge.device import commands
    from forge.device.detection import candidates

    found = commands.detect(candidates(_profiles(project_dir)), profile=profile)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    rows = [(key, str(value)) for key, value in found.hardware.model_dump(mode="json").items()]
    print_table(("", ""), [("profile", found.profile), *rows])
    for text in (*found.reasons, *found.warnings):
        click.echo(text)


@device.command()
@click.option("--apply", is_flag=True, help="Run the commands; needs root.")
@_profile_option
@_state_option
@project_option
@json_option
def power(
    profile: str | None, state: Path, project_dir: Path | None, *, apply: bool, as_json: bool
) -> None:
    """Say which power modes and limits there are, what is in force, and what is wanted.

    Changes nothing without --apply. A mode that needs a reboot is never applied here.

    \b
    forge device power
    sudo forge device power --apply
    """  # noqa: D301
    from forge.device import commands

    found = commands.power(state, _profiles(project_dir), profile=profile, apply=apply)
    report = found.power
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_power(found.wanted_by, report)
    if apply and report.problems:
        raise StepFailedError(
            "Not all of the power settings are in force",
            why="; ".join(report.problems),
            hint="forge device power shows what is",
        )


def _print_power(wanted_by: str, report: PowerReport) -> None:
    settings = report.wanted.model_dump().items() if report.wanted else ()
    wanted = [f"{key} {value}" for key, value in settings if value]
    limits = [
        (
            gpu.name,
            f"{_watts(gpu.limit_w)} of {_watts(gpu.min_limit_w)} to {_watts(gpu.max_limit_w)}",
        )
        for gpu in report.gpus
    ]
    rows = [
        ("mode in force", report.mode or "none"),
        ("modes", ", ".join(report.modes) or "none"),
        ("default mode", report.default_mode or "none"),
        *limits,
        ("wanted", ", ".join(wanted) or "nothing"),
        ("wanted by", wanted_by),
        *(("to be run", command) for command in report.commands),
        *(("problem", problem) for problem in report.problems),
    ]
    print_table(("", ""), rows)


def _watts(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g} W"


def _profiles(project_dir: Path | None) -> dict[str, Profile]:
    from forge import profiles
    from forge.scaffold import origin

    try:
        folder = open_project(project_dir).profiles
    except ConfigurationError:
        folder = origin("profiles")  # a device has no project; the wheel brings the profiles
    return {name: profiles.load(name, folder).profile for name in profiles.names(folder)}


@device.command()
@click.option("--release", is_flag=True, help="Let what was gone back from be installed again.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Is kept.")
@_state_option
@json_option
def rollback(reason: str, state: Path, *, release: bool, as_json: bool) -> None:
    """Go back to what served before the last update, if it still answers as it should.

    What is gone back from is held: it is not installed again until a newer one comes, or until
    --release.

    \b
    forge device rollback --reason "answers are too slow"
    forge device rollback --release
    """  # noqa: D301
    from forge.device import upkeep

    lift, back = upkeep.release, upkeep.rollback
    found = lift(state, say=_say) if release else back(state, reason, say=_say)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    click.echo(f"{state} has {found.release} in slot {found.slot}")
    if found.held:
        click.echo(f"held back: {found.held.release}; forge device rollback --release lifts that")


@device.command()
@_state_option
@json_option
def history(state: Path, *, as_json: bool) -> None:
    """Say what was installed, kept, gone back from and repaired, and why. The newest is last.

    \b
    forge device history
    forge device history --json
    """  # noqa: D301
    from forge.device import upkeep

    found = upkeep.history(state)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (one.at, one.event, str(one.release or ""), one.slot or "", one.reason) for one in found
    ]
    print_table(("when", "what", "release", "slot", "why"), rows)


@device.command()
@click.option("--repair", is_flag=True, help="Fetch what is damaged; no agent may run.")
@_state_option
@json_option
def verify(state: Path, *, repair: bool, as_json: bool) -> None:
    """Read every byte of both slots and compare it with what was verified when it was fetched.

    \b
    forge device verify
    forge device verify --repair
    """  # noqa: D301
    from forge.device import upkeep

    found = upkeep.verify(state, repair=repair, say=_say)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (
            one.slot,
            str(one.release),
            "repaired" if one.repaired else "whole",
            "; ".join(one.damages),
        )
        for one in found
    ]
    print_table(("slot", "release", "is", "was damaged"), rows)


def _listener(target: str, opened: contextlib.ExitStack) -> Tell:
    from forge.device.events import EventFile, stream

    if target == "-":
        return stream(sys.stdout.buffer)
    try:
        return opened.enter_context(contextlib.closing(EventFile(Path(target)))).tell
    except OSError as error:
        raise UsageError(f"{target} cannot be written", why=str(error)) from None


def _say(text: str) -> None:
    click.echo(text, err=True)
