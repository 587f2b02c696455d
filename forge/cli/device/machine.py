"""`forge device detect|power`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, open_project, print_json, project_option
from forge.cli.device.options import gpu_option, profile_option, state_option
from forge.cli.terminal import print_table, print_text, value_text
from forge.errors import ConfigurationError, FitError, StepFailedError

if TYPE_CHECKING:
    from forge.device.hardware.inventory import Hardware
    from forge.device.power.plan import PowerReport
    from forge.profiles import Profile

__all__ = ["detect", "power"]


@click.command()
@profile_option
@gpu_option
@project_option
@json_option
def detect(
    profile: str | None, gpu: str | None, project_dir: Path | None, *, as_json: bool
) -> None:
    """Show this machine's hardware and the matching profile.

    \b
    forge device detect
    """  # noqa: D301
    from forge.device import commands
    from forge.device.hardware.profile_match import candidates

    rules = candidates(_profiles(project_dir))
    hardware, gpu = commands.inspect(), commands.check_gpu(gpu)
    try:
        found = commands.detect(rules, profile=profile, gpu=gpu, hardware=hardware)
    except FitError:  # what the machine is matters most where no profile is for it
        _print_hardware(hardware, None, as_json=as_json)
        raise
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    _print_hardware(hardware, found.profile, as_json=False)
    for text in (*found.reasons, *found.warnings):
        print_text(text)


def _label(key: str) -> str:
    return key.replace("_", " ").replace("mib", "MiB")


def _print_hardware(hardware: Hardware, profile: str | None, *, as_json: bool) -> None:
    values = hardware.model_dump(mode="json")
    if as_json:
        print_json({"hardware": values, "profile": profile, "reasons": [], "warnings": []})
        return
    rows = [(_label(key), value_text(value)) for key, value in values.items()]
    print_table(("", ""), [("profile", profile or "none"), *rows])


@click.command()
@click.option("--apply", is_flag=True, help="Apply the settings. Requires root.")
@profile_option
@gpu_option
@state_option
@project_option
@json_option
def power(
    profile: str | None,
    gpu: str | None,
    state: Path,
    project_dir: Path | None,
    *,
    apply: bool,
    as_json: bool,
) -> None:
    """Show or apply power modes and limits.

    Shows the available modes, the current settings and those of the profile.

    Changes nothing without --apply. A mode that requires a reboot is never applied.

    \b
    forge device power
    sudo forge device power --apply
    """  # noqa: D301
    from forge.device import commands

    found = commands.power(
        state, _profiles(project_dir), profile=profile, gpu=commands.check_gpu(gpu), apply=apply
    )
    report = found.power
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_power(found.wanted_by, report)
    if apply and report.problems:
        raise StepFailedError(
            "Not all power settings are in effect",
            why="; ".join(report.problems),
            hint="forge device power shows the current settings",
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
        ("current mode", report.mode or "none"),
        ("modes", ", ".join(report.modes) or "none"),
        ("default mode", report.default_mode or "none"),
        *limits,
        ("configured", ", ".join(wanted) or "nothing"),
        ("configured by", wanted_by),
        *(("to run", command) for command in report.commands),
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
        folder = origin("profiles")  # a device has no project; the wheel contains the profiles
    return {name: profiles.load(name, folder).profile for name in profiles.names(folder)}
