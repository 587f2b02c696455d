"""Whose fault a failure is: the release's, which is then not tried again, or nobody's."""

from __future__ import annotations

from forge.device.journal import SlotName
from forge.device.moves import Action, Fetch, Probe
from forge.errors import (
    BundleError,
    ForgeError,
    LoadFailedError,
    RolledBackError,
    StoreError,
    TrustError,
)

__all__ = ["blames", "rolled_back"]


def blames(action: Action, error: ForgeError) -> bool:
    """Whether the release itself is at fault, on a machine that had room.

    That is so for proofs that do not hold, files of the bundle that are wrong, a model that does
    not load, and one that answers wrongly or not at all. Whatever the machine lacks can be put
    right while the release stays the same: a package index, a Python version, a port, memory for
    one more process, room on the disk. What ran out of room (forge.device.room) is never its fault,
    and what did not load or answer was tried twice before it is asked here.
    """
    if isinstance(error, BundleError | LoadFailedError):
        return True
    if isinstance(action, Fetch):
        return isinstance(error, TrustError)
    return isinstance(action, Probe) and not isinstance(error, StoreError)


def rolled_back(error: ForgeError, active: SlotName | None) -> ForgeError:
    """What an update raises for a bundle that was tried and not kept."""
    kept = f"slot {active} serves on" if active else "no other bundle is installed"
    hint = f"{kept}; forge device status shows the reason; publish another version"
    return RolledBackError("The bundle was not kept", why=str(error), hint=hint)
