"""`forge device detect|capture|power`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, load_profiles, print_json, project_option
from forge.cli.device.options import gpu_option, profile_option, state_option
from forge.cli.terminal import print_list, print_table, print_text, value_text
from forge.errors import ConfigurationError, FitError, StepFailedError

if TYPE_CHECKING:
    from forge.device.hardware.inventory import Hardware
    from forge.device.power.plan import PowerReport

__all__ = ["capture", "detect", "power"]


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

    rules = candidates(load_profiles(project_dir))
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
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write, a tar.",
)
@json_option
def capture(output: Path, *, as_json: bool) -> None:
    """Write what this machine says about itself to a file, for a new profile.

    \b
    forge device capture -o board.tar
    forge profile check-hardware --from board.tar

    Contains the files and answers by which the hardware is detected, temperatures and power modes;
    also which of them could not be read, and why. Needs no root and changes nothing. Left out are
    serial numbers, MAC and IP addresses, processes, and the names of this machine and its users;
    UUIDs are replaced by numbers.
    """  # noqa: D301
    from forge.device.hardware.capture import hardware_of
    from forge.device.hardware.capture_files import write_capture
    from forge.device.hardware.profile_match import describe
    from forge.device.recording import record

    found = record()
    try:
        size = write_capture(found, output)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written", why=str(error)) from None
    unreadable = {
        f"/{path}": errno.errorcode.get(number, str(number))
        for path, number in sorted(found.unreadable.items())
    }
    counts = {"bytes": size, "files": len(found.files), "commands": len(found.answers)}
    if as_json:
        print_json({"file": str(output), **counts, "unreadable": unreadable})
        return
    print_text(f"wrote {output}: {len(found.files)} files, {len(found.answers)} answers")
    print_text(describe(hardware_of(found)))
    print_list("Could not be read", [f"{path}: {name}" for path, name in unreadable.items()])


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
        state, load_profiles(project_dir), profile=profile, gpu=commands.check_gpu(gpu), apply=apply
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
