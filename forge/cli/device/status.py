"""`forge device status|history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, print_json
from forge.cli.device.options import state_option
from forge.cli.terminal import headline, print_table

if TYPE_CHECKING:
    from forge.device.telemetry.status import DeviceStatus

__all__ = ["history", "status"]


@click.command()
@state_option
@json_option
def status(state: Path, *, as_json: bool) -> None:
    """Show the active release, update checks and rollbacks.

    A rollback is shown with the first line of its reason; `forge device history` shows all of it.

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
    check = found.look
    rows = [
        ("follows", f"{found.name} {found.channel} from {found.store_url}"),
        *_places(found),
        ("state", found.state),
        ("serves", f"{found.release} from slot {found.slot}" if found.release else "nothing yet"),
        ("agent", f"pid {agent.pid}, {agent.url or 'no API'}" if agent else "not running"),
    ]
    if agent and agent.containment:
        rows.append(("contained", ", ".join(agent.containment.in_force) or "not at all"))
        missing = sorted(agent.containment.missing.items())
        rows += [("not contained", f"{what}: {why}") for what, why in missing]
    if check:
        result = check.error or (f"found {check.offered}" if check.offered else "")
        rows.append(("last check", "\n".join(filter(None, [check.at, result]))))
        rows += [("no longer fits", check.unfit)] if check.unfit else []
        rows += [("does not fit", refusal) for refusal in check.refusals]
        rows += [("warning", warning) for warning in check.warnings]
    rows += [
        ("rolled back", f"{one.at} {one.release}: {headline(one.reason)}")
        for one in found.rollbacks
    ]
    if found.previous:
        rows.append(("previous", str(found.previous)))
    if late := found.interrupted:
        rows.append(("waits", f"{late.release}, {late.checks} more checks: {late.reason}"))
    if found.held:
        rows.append(("held", f"{found.held.release}: {found.held.reason}"))
    print_table(("", ""), rows)


def _places(found: DeviceStatus) -> list[tuple[str, str]]:
    """Return a row for the store and each mirror, with the failures that the agent counted."""
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


@click.command()
@state_option
@json_option
def history(state: Path, *, as_json: bool) -> None:
    """Show installations, rollbacks and repairs, newest last.

    \b
    forge device history
    forge device history --json
    """  # noqa: D301
    from forge.device import maintenance

    found = maintenance.history(state)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (one.at, one.event, str(one.release or ""), one.slot or "", one.reason) for one in found
    ]
    header = ("time", "event", "release", "slot", "reason")
    print_table(header, rows, optional=("slot",), empty="No event yet.")
