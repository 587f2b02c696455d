"""`forge device rollback|verify`."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli.common import json_option, print_json
from forge.cli.device.options import state_option
from forge.cli.terminal import print_table, print_text, tinted

__all__ = ["rollback", "verify"]


@click.command()
@click.option("--unhold", is_flag=True, help="Allow a held or waiting release to be installed now.")
@click.option("--release", "unhold_alias", is_flag=True, hidden=True)  # its name until 0.1
@click.option(
    "--reason",
    default="rolled back by hand",
    show_default=True,
    help="Reason recorded in the history.",
)
@state_option
@json_option
def rollback(reason: str, state: Path, *, unhold: bool, unhold_alias: bool, as_json: bool) -> None:
    """Roll back to the previous release, if its probe still passes.

    The release that is rolled back is held: it is not installed again until a newer one is
    published, or until --unhold. That also ends the wait of a release whose activation was
    interrupted too often.

    \b
    forge device rollback --reason "answers are too slow"
    forge device rollback --unhold
    """  # noqa: D301
    from forge.device import maintenance
    from forge.device.telemetry import logs

    logs.configure()
    if unhold or unhold_alias:
        found = maintenance.unhold(state)
    else:
        found = maintenance.rollback(state, reason)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_text(f"{state}: {found.release} is active in slot {found.slot}")
    if found.held:
        print_text(f"Held: {found.held.release}. To allow it again: forge device rollback --unhold")


@click.command()
@click.option("--repair", is_flag=True, help="Download damaged files again. Stop the agent first.")
@state_option
@json_option
def verify(state: Path, *, repair: bool, as_json: bool) -> None:
    """Check the digests of all files in both slots.

    \b
    forge device verify
    forge device verify --repair
    """  # noqa: D301
    from forge.device import maintenance
    from forge.device.telemetry import logs

    logs.configure()
    found = maintenance.verify(state, repair=repair)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (
            one.slot,
            str(one.release),
            tinted("repaired" if one.repaired else "damaged" if one.damages else "intact"),
            "; ".join(one.damages),
        )
        for one in found
    ]
    print_table(("slot", "release", "state", "damage"), rows, empty="No slot has a release.")
