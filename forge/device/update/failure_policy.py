"""Decide what a failed action means: for its release, for the next try, and for the operator.

Pure: what the machine lacked and what the slot's files are is given as values, so that every case
is a row of a table (tests/unit/device/update/test_failure_policy.py).

A release is at fault for proofs that do not hold, files of the bundle that are wrong, a model that
does not load, and one that answers wrongly or not at all. What the machine lacks can be put
right while the release stays the same: a package index, a Python version, a port, memory for one
more process, room on the disk. What did not load or answer was tried twice before it is judged.

Only an action that failed is judged. One that did not end, because the agent was restarted (by a
power cut, a reboot, a kill, the kernel for lack of memory, an operator), is not a failure of the
release: forge.device.state_machine.transitions tries it again, three times at once and then with
growing waits, and records nothing against it.

A release that does not fit the machine as it is now, or that has served on another driver, L4T or
TensorRT than the machine has now, is not at fault either (forge.device.update.system_fit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from forge.device.shared.release import Release, SlotName
from forge.device.state_machine.actions import Action, Activate, Fetch, Probe, Serve
from forge.device.state_machine.journal import Journal
from forge.errors import (
    BundleError,
    ContainmentUnknownError,
    ForgeError,
    LoadFailedError,
    RolledBackError,
    StoreError,
    TrustError,
)

__all__ = ["FailureVerdict", "SlotCondition", "judge", "not_kept", "slot_to_check"]

SlotCondition: TypeAlias = Literal["intact", "repaired", "damaged"]


@dataclass(frozen=True, slots=True)
class FailureVerdict:
    """What follows from a failed action.

    Attributes:
        release_fault: the release is at fault: it is recorded as bad and not tried again.
        crashed: the failed start of the active slot counts as a crash of it.
        back_off: the candidate is tried again, after more and more checks of the channel.
        error: what the caller of the agent gets.
    """

    release_fault: bool
    crashed: bool
    back_off: bool
    error: ForgeError


def judge(
    action: Action,
    error: ForgeError,
    journal: Journal,
    *,
    lack: str = "",
    condition: SlotCondition = "intact",
    unfit: str = "",
) -> FailureVerdict:
    """Return the verdict on a failed action.

    Args:
        action: what failed.
        error: how.
        journal: as it was written before the action.
        lack: what the machine ran out of during the action; explains any failure. "": nothing.
        condition: of the slot that `slot_to_check` names, as it was found.
        unfit: why the release does not fit the machine any more; "": it does.
    """
    explained = bool(lack or unfit) or condition != "intact"
    fault = _by_error(action, error) and not explained
    if isinstance(action, Serve):
        crashed = _by_error(action, error) and condition != "repaired"
        return FailureVerdict(fault, crashed, back_off=False, error=error)
    # Without a slot to return to, even a bad release is tried again: better than a dead device.
    back_off = journal.candidate is not None and not (fault and journal.active)
    reported = not_kept(error, journal.active) if fault else error
    return FailureVerdict(fault, crashed=False, back_off=back_off, error=reported)


def slot_to_check(
    action: Action, error: ForgeError, journal: Journal, *, lack: str = ""
) -> tuple[SlotName, Release] | None:
    """Return the slot whose files must be checked before `judge` is called, and its release.

    Files that changed since they were verified explain a failure to serve them: also in a slot
    that was just fetched, where a power cut or a failing disk can change them before they are read.
    """
    if not _by_error(action, error):
        return None
    if isinstance(action, Serve):
        return (action.slot, journal.active_release) if journal.active_release else None
    if not isinstance(action, Activate | Probe) or lack or journal.candidate is None:
        return None
    return (journal.target, journal.candidate) if journal.target else None


def not_kept(error: ForgeError, active: SlotName | None) -> RolledBackError:
    """Return what an update raises for a bundle that was tried and not kept."""
    kept = f"slot {active} serves on" if active else "no other bundle is installed"
    hint = f"{kept}; forge device status shows the reason; publish another version"
    return RolledBackError("The bundle was not kept", why=str(error), hint=hint)


def _by_error(action: Action, error: ForgeError) -> bool:
    """Whether this kind of error is the release's fault on a machine that lacks nothing."""
    if isinstance(error, BundleError | LoadFailedError):
        return True
    if isinstance(error, ContainmentUnknownError):
        return False
    if isinstance(action, Fetch):
        return isinstance(error, TrustError)
    return isinstance(action, Probe) and not isinstance(error, StoreError)
