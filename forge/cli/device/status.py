"""`forge device status|history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, print_json
from forge.cli.device.options import state_option
from forge.cli.terminal import headline, print_table
from forge.progress import bytes_text, duration_text

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
    check = found.look
    rows = [
        ("follows", f"{found.name} {found.channel} from {found.store_url}"),
        *_places(found),
        ("state", found.state),
        ("serves", f"{found.release} from slot {found.slot}" if found.release else "nothing yet"),
        ("update", found.freshness.text(found.channel)),
        *_activity(found),
        *_contact(found),
        *_weights(found),
        *_containment(found),
    ]
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


def _containment(found: DeviceStatus) -> list[tuple[str, str]]:
    """Return the rows of what confines the model server."""
    if not (found.agent and found.agent.containment):
        return []
    containment = found.agent.containment
    missing = sorted(containment.missing.items())
    return [
        ("contained", ", ".join(containment.in_force) or "not at all"),
        *(("not contained", f"{what}: {why}") for what, why in missing),
    ]


def _activity(found: DeviceStatus) -> list[tuple[str, str]]:
    """Return the rows of the running agent and of what it does now."""
    if not (agent := found.agent):
        return [("agent", "not running")]
    up = f", up {duration_text(found.uptime_s)}" if found.uptime_s is not None else ""
    rows = [("agent", f"pid {agent.pid}{up}, {agent.url or 'no API'}")]
    activity = agent.activity
    if activity.fetch:
        rows.append(("fetching", f"{activity.fetch.release}: {activity.fetch}"))
    if start := activity.start:
        limit = f"at most {duration_text(start.limit_s)}"
        took = duration_text(start.seconds)
        rows.append(("starting", f"Triton of slot {start.slot}, for {took}, {limit}"))
    if activity.refuses:
        rows.append(("no answers", activity.refuses))
    return rows


def _contact(found: DeviceStatus) -> list[tuple[str, str]]:
    """Return the rows of the device's contact with its store."""
    contact = found.contact
    rows = [("last contact", contact.last_contact or "never")]
    if contact.failing_since:
        count = "1 failed check" if contact.failures == 1 else f"{contact.failures} failed checks"
        lasted = duration_text(found.offline_s)
        rows.append(("offline", f"for {lasted}, since {contact.failing_since}, {count}"))
    return rows


def _weights(found: DeviceStatus) -> list[tuple[str, str]]:
    """Return a row for each slot whose files were read in the background."""
    rows = []
    for slot, reading in sorted(found.weights.items()):
        if reading.damaged:
            told = f"damaged: {', '.join(reading.damaged)}; repaired as soon as the store has it"
        elif reading.began:
            read, total = bytes_text(reading.read_bytes), bytes_text(reading.total_bytes)
            told = f"{read} of {total} read since {reading.began}"
        else:
            told = f"intact at {reading.finished}"
        rows.append((f"files of {slot}", told))
    return rows


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
