"""`forge profile list|show|check-hardware|schema`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge import profiles
from forge.check import SCHEMA, schema_text
from forge.cli import completion
from forge.cli.common import (
    json_option,
    load_profiles,
    open_project,
    print_json,
    project_option,
)
from forge.cli.device.options import gpu_option
from forge.cli.terminal import print_list, print_table, print_text, tinted, value_text
from forge.errors import FitError, UsageError
from forge.files import write_durably

if TYPE_CHECKING:
    from forge.device.hardware.profile_check import HardwareCheck
    from forge.device.readiness import Readiness
    from forge.profiles import Profile

__all__ = ["profile"]


@click.group()
def profile() -> None:
    """Show and check device profiles.

    \b
    forge profile list
    forge profile show jetson-agx-thor
    forge profile check-hardware --from board.tar
    """  # noqa: D301


@profile.command("list")
@project_option
@json_option
def list_profiles(project_dir: Path | None, *, as_json: bool) -> None:
    """List the project's profiles.

    \b
    forge profile list
    """  # noqa: D301
    project = open_project(project_dir)
    loaded = [profiles.load(name, project.profiles) for name in profiles.names(project.profiles)]
    found = [one.profile for one in loaded]
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (one.name, one.platform, one.engine.builder, one.engine.precision,
         "yes" if one.unverified else "no", one.description)
        for one in found
    ]  # fmt: skip
    print_table(("profile", "platform", "builder", "precision", "unverified", "device"), rows,
                optional=("unverified", "precision"))  # fmt: skip


@profile.command()
@click.argument("name", shell_complete=completion.profile_names)
@click.option(
    "--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a profile field."
)
@project_option
@json_option
def show(name: str, overrides: tuple[str, ...], project_dir: Path | None, *, as_json: bool) -> None:
    """Show each value of a profile and its origin.

    \b
    forge profile show development
    forge profile show jetson-agx-thor --set engine.max_batch_size=4
    """  # noqa: D301
    project = open_project(project_dir)
    resolved = profiles.load(name, project.profiles, environment=os.environ, overrides=overrides)
    values = resolved.profile.model_dump(mode="json")
    if as_json:
        origins = {
            path: {"source": origin.source.name.lower(), "where": origin.where}
            for path, origin in resolved.origins.items()
        }
        print_json({"profile": values, "origins": origins})
        return
    rows = []
    by_origin = sorted(resolved.origins.items(), key=_by_origin)
    for path, origin in by_origin:
        value = values
        for part in path.split("."):
            value = value[part]
        if path != "unverified":  # printed below, a line each
            rows.append((path, value_text(value), origin.where))
    print_table(("field", "value", "from"), rows, group="from")
    print_list("\nNot verified on hardware", resolved.profile.unverified)


def _by_origin(one: tuple[str, profiles.Origin]) -> tuple[int, str, str]:
    """Sort fields by where their values come from, the lowest layer first."""
    path, origin = one
    return origin.source.value, origin.where, path


@profile.command("check-hardware")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True),
    help="A capture: a tar of forge device capture, or a folder. Default: this machine.",
)
@click.option(
    "--profile",
    shell_complete=completion.profile_names,
    help="Check this profile instead of the one that matches.",
)
@gpu_option
@click.option(
    "--idle",
    is_flag=True,
    help="Check too that the profile's GPU is idle, cool and not throttled, before a benchmark. "
    "Takes a few seconds.",
)
@project_option
@json_option
def check_hardware(
    source: Path | None,
    profile: str | None,
    gpu: str | None,
    project_dir: Path | None,
    *,
    idle: bool,
    as_json: bool,
) -> None:
    """Show which profile a machine gets, why, why not the others, and what does not fit.

    \b
    forge profile check-hardware
    forge profile check-hardware --profile rtx-pro-4000 --idle
    forge profile check-hardware --from board.tar
    forge profile check-hardware --from board.tar --profile jetson-agx-thor

    A capture is read by the code that detects a live machine. Exits with 8 if the machine gets no
    profile, several match, a requirement of the profile is not met, or its GPU is not idle.
    """  # noqa: D301
    if idle and source:
        why, hint = "a capture does not say what runs now", "leave out --from"
        raise UsageError("--idle checks this machine", why=why, hint=hint)
    from forge.device import commands
    from forge.device.hardware import profile_check
    from forge.device.hardware.capture import hardware_of
    from forge.device.hardware.capture_files import read_capture

    hardware = hardware_of(read_capture(source)) if source else commands.inspect()
    known = load_profiles(project_dir)
    found = profile_check.check_hardware(hardware, known, profile, commands.check_gpu(gpu))
    readiness = _readiness(found, known, gpu) if idle else None
    if as_json:
        asked = {"readiness": asdict(readiness)} if readiness else {}
        print_json(found.model_dump(mode="json") | asked)
    else:
        _print_check(found)
        if readiness:
            print_list("\nNot ready for a benchmark", readiness.refusals)
            print_list("\nNot known", readiness.unknown)
    if found.profile is None:
        several = any(one.holds == "yes" for one in found.verdicts)
        new = "docs/how-to/add-a-sku.md says how to write one, and --profile NAME checks another"
        raise FitError(
            "This machine gets no profile",
            why=found.reasons[0],
            hint="name one with --profile, or its GPU with --gpu" if several else new,
        )
    if found.refusals:
        raise FitError(
            f"{found.profile} requires what this machine does not have",
            why="; ".join(found.refusals),
            hint="change the machine, or requires and power of the profile; a GPU that is lost "
            "may need a reboot",
        )
    if readiness and readiness.refusals:
        raise FitError(
            f"This machine is not ready for a benchmark of {found.profile}",
            why="; ".join(readiness.refusals),
            hint="end what computes on it, let it cool, and check again",
        )


def _readiness(
    found: HardwareCheck, profiles: Mapping[str, Profile], gpu: str | None
) -> Readiness | None:
    """Return the readiness of the GPU of a profile; None: the machine gets no profile."""
    from forge.device.hardware.compute_target import target_of
    from forge.device.readiness import check_readiness

    if found.profile is None:
        return None
    profile = profiles[found.profile]
    section = profile.hardware
    target = target_of(section.match, section.compute_capability, found.hardware, gpu)
    return check_readiness(target, profile.thermal.throttle_c)


def _print_check(found: HardwareCheck) -> None:
    from forge.device.hardware.profile_match import describe

    rows = [
        ("machine", describe(found.hardware)),
        ("JetPack", f"{found.hardware.jetpack or '—'} (L4T {found.hardware.l4t or '—'})"),
        ("driver", found.hardware.driver or "—"),
        ("profile", found.profile or "none"),
        ("because", "; ".join(found.reasons)),
    ]
    print_table(("", ""), rows)
    click.echo()
    verdicts = [
        (one.profile, tinted(one.holds), "; ".join(one.reasons) or "—") for one in found.verdicts
    ]
    print_table(("profile", "matches", "because"), verdicts)
    print_list("\nDoes not fit", found.refusals)
    print_list("\nDiffers from the profile", found.differences)
    print_list("\nNotes", found.notes)


@profile.command()
@click.option("--write", is_flag=True, help="Write artifacts/schema/profile.schema.json.")
@project_option
def schema(project_dir: Path | None, *, write: bool) -> None:
    """Show the JSON Schema of a profile file, for editors.

    \b
    forge profile schema --write
    """  # noqa: D301
    text = schema_text()
    if not write:
        click.echo(text, nl=False)
        return
    path = open_project(project_dir).root / SCHEMA
    write_durably(path, text.encode())
    print_text(f"wrote {path}")
