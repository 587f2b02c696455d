"""What can happen to a device, and what it can do about it: the words of its state machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from forge.device.journal import Release, SlotName

__all__ = [
    "Action",
    "Activate",
    "Crashed",
    "Event",
    "Failed",
    "Fetch",
    "Fetched",
    "GoBack",
    "GoBackAsked",
    "HoldLifted",
    "Prepare",
    "Prepared",
    "Probe",
    "Probed",
    "Ready",
    "Serve",
    "Started",
    "Stopped",
    "Switch",
    "Switched",
    "UpdateFound",
    "Wait",
    "WentBack",
]


@dataclass(frozen=True, slots=True)
class Started:
    """The agent's process has just begun."""

    at: str


@dataclass(frozen=True, slots=True)
class UpdateFound:
    """The channel names this release, and it fits."""

    release: Release


@dataclass(frozen=True, slots=True)
class Fetched:
    """The target slot holds the whole candidate, verified and durable.

    Attributes:
        fetched_bytes: read from the store for it.
        reused_bytes: taken from what the slots held.
    """

    fetched_bytes: int = 0
    reused_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """Fetching was given up, because somebody asked for something that goes first.

    Attributes:
        restored: the target slot holds again what it held before.
    """

    restored: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """The environment that serves the target slot is there.

    Attributes:
        blue_green: the candidate is to be started while the active slot serves on.
    """

    blue_green: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The model of the target slot is loaded."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The target slot answered every golden prompt as it should."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The step under way did not work.

    Attributes:
        reason: for people, kept and shown.
        at: when, RFC 3339.
        blame: the release itself is at fault; not so for a broken network or a full disk.
    """

    reason: str
    at: str
    blame: bool


@dataclass(frozen=True, slots=True)
class Crashed:
    """The server of the active slot ended by itself, or did not load.

    Attributes:
        reason: for people, kept and shown.
        at: when, RFC 3339.
        lived_s: seconds it had served.
        blame: the release is at fault; not so if the slot's files are damaged.
    """

    reason: str
    at: str
    lived_s: float
    blame: bool


@dataclass(frozen=True, slots=True)
class GoBackAsked:
    """Somebody wants the release that served before this one.

    Attributes:
        reason: for people, kept and shown.
        at: when, RFC 3339.
        blue_green: that release is to be started while the active slot serves on.
    """

    reason: str
    at: str
    blue_green: bool = False


@dataclass(frozen=True, slots=True)
class HoldLifted:
    """The release that was gone back from by hand may be installed again."""


@dataclass(frozen=True, slots=True)
class Switched:
    """`current` points to the active slot."""


@dataclass(frozen=True, slots=True)
class WentBack:
    """Nothing of the candidate runs any more."""


Event: TypeAlias = (
    Started
    | UpdateFound
    | Fetched
    | Stopped
    | Prepared
    | Ready
    | Probed
    | Failed
    | Crashed
    | GoBackAsked
    | HoldLifted
    | Switched
    | WentBack
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until the next look at the channel."""


@dataclass(frozen=True, slots=True)
class Serve:
    """See that this slot gets every new request; it may already.

    What another slot is still answering ends there, then that slot's server is stopped.
    """

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Fetch:
    """Put this release into this slot and verify it."""

    release: Release
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the environment that serves this slot.

    Attributes:
        slot: which.
        serving: the slot that is to serve meanwhile, started if it does not; None: as it is.
    """

    slot: SlotName
    serving: SlotName | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """Start this slot and wait until its model is loaded.

    Attributes:
        slot: which.
        beside: the slot that goes on serving meanwhile; None: whatever serves is stopped first.
    """

    slot: SlotName
    beside: SlotName | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask this slot its golden prompts."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Switch:
    """Point `current` to this slot."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class GoBack:
    """Stop the candidate, and nothing else: the slot that served before may never have stopped."""

    slot: SlotName | None


Action: TypeAlias = Wait | Serve | Fetch | Prepare | Activate | Probe | Switch | GoBack
