"""The events that the state machine handles: what happened to a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from forge.device.shared.release import Release

__all__ = [
    "Crashed",
    "Failed",
    "Fetched",
    "GoBackAsked",
    "HoldLifted",
    "MachineEvent",
    "Prepared",
    "Probed",
    "Ready",
    "Started",
    "Stopped",
    "Switched",
    "UpdateFound",
    "WentBack",
]


@dataclass(frozen=True, slots=True)
class Started:
    """The agent's process has started.

    Attributes:
        at: time, RFC 3339.
        cause: how the one before it ended, as a clause for users; "": not known.
    """

    at: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class UpdateFound:
    """The channel points to this release, and it fits the device."""

    release: Release


@dataclass(frozen=True, slots=True)
class Fetched:
    """The target slot holds the whole candidate, verified and durable.

    Attributes:
        fetched_bytes: read from the store for it.
        reused_bytes: copied from the content of the slots.
    """

    fetched_bytes: int = 0
    reused_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """Fetching was cancelled, because an operator's request has priority.

    Attributes:
        restored: the target slot has its previous content again.
    """

    restored: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """The environment that serves the target slot is installed.

    Attributes:
        blue_green: the candidate is started while the active slot keeps serving.
    """

    blue_green: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The model of the target slot is loaded."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The target slot answered every golden prompt correctly."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The current action failed.

    Attributes:
        reason: text for users, stored and shown.
        at: time, RFC 3339.
        release_fault: whether the release caused it, and not the network or a full disk, say.
    """

    reason: str
    at: str
    release_fault: bool


@dataclass(frozen=True, slots=True)
class Crashed:
    """The server of the active slot exited unexpectedly, or did not load.

    Attributes:
        reason: text for users, stored and shown.
        at: time, RFC 3339.
        lived_s: seconds it had served.
        release_fault: whether the release caused it, and not damage to the slot's files, say.
    """

    reason: str
    at: str
    lived_s: float
    release_fault: bool


@dataclass(frozen=True, slots=True)
class GoBackAsked:
    """An operator requested a rollback to the release that served before.

    Attributes:
        reason: text for users, stored and shown.
        at: time, RFC 3339.
        blue_green: that release is started while the active slot keeps serving.
    """

    reason: str
    at: str
    blue_green: bool = False


@dataclass(frozen=True, slots=True)
class HoldLifted:
    """The release that an operator rolled back from may be installed again."""


@dataclass(frozen=True, slots=True)
class Switched:
    """`current` points to the active slot."""


@dataclass(frozen=True, slots=True)
class WentBack:
    """No process of the candidate is left."""


MachineEvent: TypeAlias = (
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
