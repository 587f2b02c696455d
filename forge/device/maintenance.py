"""Implement `forge device rollback`, `history` and `verify`."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device import commands, daemon
from forge.device.agent.agent import timestamp
from forge.device.agent.repair import Repair
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.state import integrity
from forge.device.state.directory import StateDirectory
from forge.device.state.operator_requests import OperatorRequest, submit, unfulfilled
from forge.device.state.settings import read_settings
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.history import DeviceEvent, History
from forge.device.telemetry.status import DeviceStatus
from forge.device.update.updater import Updater
from forge.errors import CorruptedError, RolledBackError, StoreError, UsageError

__all__ = ["SlotHealth", "history", "rollback", "unhold", "verify"]

_POLL_S: Final = 0.2


class SlotHealth(BaseModel):
    """What the check of one slot found.

    Attributes:
        slot: which.
        release: what it holds.
        damages: files that have changed, a sentence each.
        repaired: whether they are now.
    """

    model_config = ConfigDict(frozen=True)

    slot: SlotName
    release: Release
    damages: tuple[str, ...]
    repaired: bool = False


def rollback(state: Path, reason: str, *, timeout_s: float = 600.0) -> DeviceStatus:
    """Go back to what served before; it is probed first. The release that serves now is held back.

    Args:
        state: the state directory.
        reason: kept in the history.
        timeout_s: how long to wait for an agent that runs.

    Raises:
        UsageError: the other slot holds nothing that served; this is root and the folder is not.
        RolledBackError: what served before does not pass its probe now; nothing was changed.
        StoreError: the running agent did not answer in time.
    """
    home = StateDirectory(state)
    before = home.journal()
    if before.previous is None:
        message = "There is nothing to go back to"
        hint = "a device can go back once after each update; forge device history shows them"
        raise UsageError(message, why="the other slot holds nothing that served", hint=hint)
    leaves = before.active_release.manifest if before.active_release else None
    _carry_out(home, OperatorRequest(what="rollback", leaves=leaves, reason=reason), timeout_s)
    after = home.journal()
    if after.active_release != before.previous:
        why = after.rollbacks[-1].reason if after.rollbacks != before.rollbacks else ""
        message = f"The device did not go back to {before.previous}"
        raise RolledBackError(message, why=why, hint="see its log; what served keeps serving")
    return commands.status(state)


def unhold(state: Path, *, timeout_s: float = 60.0) -> DeviceStatus:
    """Allow the release that was rolled back, or interrupted too often, to be installed again.

    Raises:
        UsageError: no release is held back, and none waits.
        StoreError: the running agent did not answer in time.
    """
    home = StateDirectory(state)
    journal = home.journal()
    if journal.held is None and journal.interrupted is None:
        raise UsageError("No release is held back", hint="forge device status shows what is")
    _carry_out(home, OperatorRequest(what="release"), timeout_s)
    return commands.status(state)


def history(state: Path) -> list[DeviceEvent]:
    """Read what happened, the oldest first. Raises ConfigurationError, StoreError."""
    home = StateDirectory(state)
    read_settings(home.path)
    try:
        return History(state).read()
    except OSError as error:
        raise StoreError(f"The history in {state} cannot be read", why=str(error)) from None


def verify(state: Path, *, repair: bool) -> tuple[SlotHealth, ...]:
    """Read every byte of both slots; with `repair`, repair them from the store.

    Raises:
        UsageError: `repair`, and an agent runs.
        CorruptedError: a slot is damaged, and `repair` is False.
        TrustError, StoreError: it could not be repaired.
    """
    home = StateDirectory(state)
    settings, root_bytes = read_settings(home.path)
    with home.locked() if repair else contextlib.nullcontext():
        if repair:
            home.clean()
        journal = home.journal()
        found = _examine(home, journal)
        damaged = [one for one in found if one.damages]
        if damaged and not repair:
            texts = [f"slot {one.slot}: {text}" for one in damaged for text in one.damages]
            hint = f"forge device verify --repair --state {state} (stop the agent first)"
            raise CorruptedError("The device is damaged", why="; ".join(texts[:5]), hint=hint)
        updater = Updater(home, settings, root_bytes, HardwareWatch())
        append = History(state).append
        repairer = Repair(home, updater, append, lambda: timestamp(datetime.now(UTC)))
        for one in damaged:
            repairer.repair(one.slot, one.release)
        if damaged:
            os.sync()
        return tuple(one.model_copy(update={"repaired": bool(one.damages)}) for one in found)


def _examine(home: StateDirectory, journal: Journal) -> list[SlotHealth]:
    found = []
    for slot in SLOTS:
        held = journal.slots.get(slot)
        # A slot that is being filled cannot be checked.
        if held is None or (slot == journal.target and journal.state == "fetching"):
            continue
        try:
            damages = integrity.by_digest(home, slot, held)
        except OSError as error:
            raise StoreError(f"Slot {slot} cannot be read", why=str(error)) from None
        found.append(SlotHealth(slot=slot, release=held, damages=tuple(map(str, damages))))
    return found


def _carry_out(home: StateDirectory, request: OperatorRequest, timeout_s: float) -> None:
    """Let the running agent carry out a request; where none runs, do it here and now."""
    home.require_owner()  # before anything is left for the service to find
    submit(home, request)
    if home.holder() is None:
        daemon.run(home.path, once=True)
        return
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if home.holder() is None:
            message = "The agent ended before it carried out the request"
            raise StoreError(message, hint="it does so when it is started again")
        if not unfulfilled(home) and home.journal().state == "idle":
            return
        time.sleep(_POLL_S)
    message = f"The agent did not carry out the request within {timeout_s:g} s"
    raise StoreError(message, hint="it may still do so: forge device status, forge device history")
