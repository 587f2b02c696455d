"""The actions that the state machine returns for the agent to execute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from forge.device.shared.release import Release, SlotName

__all__ = ["Action", "Activate", "Fetch", "GoBack", "Prepare", "Probe", "Serve", "Switch", "Wait"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until the next check of the channel."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Route every new request to this slot, if that is not so already.

    Requests that another slot is answering finish there; then that slot's server is stopped.
    """

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch this release into this slot and verify it."""

    release: Release
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Prepare:
    """Create the environment that serves this slot.

    Attributes:
        slot: the slot to prepare.
        serving: the slot that must serve at the same time, started if it does not; None: no change.
    """

    slot: SlotName
    serving: SlotName | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """Start this slot and wait until its model is loaded.

    Attributes:
        slot: the slot to start.
        serving: the slot that keeps serving during the start; None: all servers are stopped first.
    """

    slot: SlotName
    serving: SlotName | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Send the golden prompts to this slot and check the answers."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Switch:
    """Point `current` to this slot."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class GoBack:
    """Stop the candidate only: the slot that served before may still be running."""

    slot: SlotName | None


Action: TypeAlias = Wait | Serve | Fetch | Prepare | Activate | Probe | Switch | GoBack
