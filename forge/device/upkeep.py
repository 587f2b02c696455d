"""What `forge device rollback|history|verify` call."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device import commands, health
from forge.device.agent import timestamp
from forge.device.asked import Asked, ask, unfulfilled
from forge.device.events import Happened, History
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.journal import SLOTS, Journal, Release, SlotName
from forge.device.repair import Repair
from forge.device.report import DeviceStatus
from forge.device.slots import Home
from forge.device.updater import Updater
from forge.errors import CorruptedError, RolledBackError, StoreError, UsageError

__all__ = ["SlotHealth", "history", "release", "rollback", "verify"]

_POLL_S: Final = 0.2

Say = Callable[[str], None]


class SlotHealth(BaseModel):
    """What was found in one slot.

    Attributes:
        slot: which.
        release: what it holds.
        damages: files that are not what they were, a sentence each.
        repaired: whether they are now.
    """

    model_config = ConfigDict(frozen=True)

    slot: SlotName
    release: Release
    damages: tuple[str, ...]
    repaired: bool = False


def rollback(state: Path, reason: str, *, say: Say, timeout_s: float = 600.0) -> DeviceStatus:
    """Go back to what served before; it is probed first. The release left is held.

    Args:
        state: the state folder.
        reason: kept in the history.
        say: gets one line per event where no agent runs.
        timeout_s: how long to wait for an agent that runs.

    Raises:
        UsageError: the other slot holds nothing that served; this is root and the folder is not.
        RolledBackError: what served before does not pass its probe now; nothing was changed.
        StoreError: the running agent did not answer in time.
    """
    home = Home(state)
    before = home.journal()
    if before.previous is None:
        message = "There is nothing to go back to"
        hint = "a device can go back once after each update; forge device history shows them"
        raise UsageError(message, why="the other slot holds nothing that served", hint=hint)
    leaves = before.active_release.manifest if before.active_release else None
    _carry_out(home, Asked(what="rollback", leaves=leaves, reason=reason), say, timeout_s)
    after = home.journal()
    if after.active_release != before.previous:
        why = after.rollbacks[-1].reason if after.rollbacks != before.rollbacks else ""
        message = f"The device did not go back to {before.previous}"
        raise RolledBackError(message, why=why, hint="see its log; what served serves on")
    return commands.status(state)


def release(state: Path, *, say: Say, timeout_s: float = 60.0) -> DeviceStatus:
    """Let what was gone back from be installed again. Raises UsageError, StoreError."""
    home = Home(state)
    if home.journal().held is None:
        raise UsageError("No release is held back", hint="forge device status shows what is")
    _carry_out(home, Asked(what="release"), say, timeout_s)
    return commands.status(state)


def history(state: Path) -> list[Happened]:
    """What happened, the oldest first. Raises ConfigurationError, StoreError."""
    home = Home(state)
    home.provisioned()
    try:
        return History(state).read()
    except OSError as error:
        raise StoreError(f"The history in {state} cannot be read", why=str(error)) from None


def verify(state: Path, *, repair: bool, say: Say) -> tuple[SlotHealth, ...]:
    """Read every byte of both slots; with `repair`, heal them from the store.

    Raises:
        UsageError: `repair`, and an agent runs.
        CorruptedError: a slot is damaged and was not to be repaired.
        TrustError, StoreError: it could not be repaired.
    """
    home = Home(state)
    device, root_bytes = home.provisioned()
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
        updater = Updater(home, device, root_bytes, parse(collect()))
        append = History(state).append
        mender = Repair(home, updater, say, append, lambda: timestamp(datetime.now(UTC)))
        for one in damaged:
            mender.heal(one.slot, one.release)
        if damaged:
            os.sync()
        return tuple(one.model_copy(update={"repaired": bool(one.damages)}) for one in found)


def _examine(home: Home, journal: Journal) -> list[SlotHealth]:
    found = []
    for slot in SLOTS:
        held = journal.slots.get(slot)
        # A slot that is being filled is nobody's to judge.
        if held is None or (slot == journal.target and journal.state == "fetching"):
            continue
        try:
            damages = health.by_digest(home, slot, held)
        except OSError as error:
            raise StoreError(f"Slot {slot} cannot be read", why=str(error)) from None
        found.append(SlotHealth(slot=slot, release=held, damages=tuple(map(str, damages))))
    return found


def _carry_out(home: Home, asked: Asked, say: Say, timeout_s: float) -> None:
    """By the agent that runs, or else here and now."""
    home.require_owner()  # before anything is left for the service to find
    ask(home, asked)
    if home.holder() is None:
        commands.run(home.path, once=True, say=say)
        return
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if home.holder() is None:
            message = "The agent ended before it did what was asked"
            raise StoreError(message, hint="it does it when it is started again")
        if not unfulfilled(home) and home.journal().state == "idle":
            return
        time.sleep(_POLL_S)
    message = f"The agent did not do what was asked within {timeout_s:g} s"
    raise StoreError(message, hint="it still may: forge device status, forge device history")
