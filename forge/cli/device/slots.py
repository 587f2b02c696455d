"""`forge device rollback|verify`."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli.common import json_option, print_json, print_table
from forge.cli.device.options import state_option

__all__ = ["rollback", "verify"]


@click.command()
@click.option("--release", is_flag=True, help="Let what was gone back from be installed again.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Is kept.")
@state_option
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


@click.command()
@click.option("--repair", is_flag=True, help="Fetch what is damaged; no agent may run.")
@state_option
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


def _say(text: str) -> None:
    click.echo(text, err=True)
