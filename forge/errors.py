"""The errors of Forge and their exit codes.

    ForgeError                 1
     ├─ UsageError             2   an argument of the command line is not valid
     │   └─ NotFoundError      2   nothing has the name that was given
     ├─ ConfigurationError     3   a profile, pipeline, lock or checkpoint is not valid
     │   └─ BundleError        3   the files of a bundle are not valid
     ├─ NoRunnerError          4   no runner on this machine can run the step
     │   └─ EngineError        4   a container engine was lost, is full, or has no network
     ├─ StepFailedError        5   a step's command failed
     │   ├─ LoadFailedError    5   a server did not load its model
     │   ├─ PortTakenError     5   another process uses the port of a server
     │   ├─ ModelAbandonedError 5  a server waits without end for a model that still loads
     │   └─ ContainmentUnknownError 5  what can contain a program could not be found out
     ├─ SmokeGateError         6   measured worse than the profile allows
     ├─ TrustError             7   a signature, digest or expiry is not valid
     ├─ FitError               8   the bundle does not fit this device
     ├─ StoreError             9   the store is unreachable, full, or damaged
     │   ├─ NotInStoreError    9   an object does not exist
     │   ├─ ConflictError      9   another process wrote first
     │   └─ CorruptedError     9   stored bytes do not have the expected digest
     └─ RolledBackError       10   the device rolled back to its previous slot

A message states what happened, why, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = [
    "BundleError",
    "ConfigurationError",
    "ConflictError",
    "ContainmentUnknownError",
    "CorruptedError",
    "EngineError",
    "FitError",
    "ForgeError",
    "LoadFailedError",
    "ModelAbandonedError",
    "NoRunnerError",
    "NotFoundError",
    "NotInStoreError",
    "PortTakenError",
    "RolledBackError",
    "SmokeGateError",
    "StepFailedError",
    "StoreError",
    "TrustError",
    "UsageError",
    "from_exit_code",
    "not_found",
]


class ForgeError(Exception):
    """Base of all errors, with cause and hint.

    Args:
        what: what happened, one sentence without a full stop.
        why: the cause, if known.
        hint: what to do next, with the command; several things are a line each.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return text + "".join(f"\n  → {line}" for line in self.hint.splitlines())


class UsageError(ForgeError):
    """An argument of the command line is not valid."""

    exit_code = 2


class NotFoundError(UsageError):
    """Nothing has the name that was given: no profile, step, bundle, version, channel, key."""


class ConfigurationError(ForgeError):
    """A profile, pipeline, lock or checkpoint is not valid."""

    exit_code = 3


class BundleError(ConfigurationError):
    """The files of a bundle are not valid: no machine could serve them."""


class NoRunnerError(ForgeError):
    """No runner on this machine can run the step, or its container engine was lost."""

    exit_code = 4


class EngineError(NoRunnerError):
    """A container engine was lost, its disk is full, or its network broke.

    It says nothing about the step: the same command may be run again.
    """


class StepFailedError(ForgeError):
    """A step's command failed."""

    exit_code = 5


class LoadFailedError(StepFailedError):
    """A server started but did not load its model, or not in time."""


class PortTakenError(StepFailedError):
    """Another process uses the port of a server."""


class ModelAbandonedError(StepFailedError):
    """A server gave up on a model's process that still loads, and waits for its end without end."""


class ContainmentUnknownError(StepFailedError):
    """What can contain a program on this machine could not be found out now; a retry may."""


class SmokeGateError(ForgeError):
    """The smoke benchmark measured worse than the profile allows."""

    exit_code = 6


class TrustError(ForgeError):
    """A signature, digest or expiry is not valid."""

    exit_code = 7


class FitError(ForgeError):
    """The bundle does not fit this device."""

    exit_code = 8


class StoreError(ForgeError):
    """The store is unreachable, full, or damaged."""

    exit_code = 9


class NotInStoreError(StoreError):
    """An object is not in the store."""


class ConflictError(StoreError):
    """Another process wrote the same object first."""


class CorruptedError(StoreError):
    """Stored bytes do not have the expected digest."""


class RolledBackError(ForgeError):
    """The device rolled back to its previous slot."""

    exit_code = 10


_MAX_NAMES: Final = 20

_BY_EXIT_CODE: Final[dict[int, type[ForgeError]]] = {
    cls.exit_code: cls
    for cls in (
        UsageError,
        ConfigurationError,
        NoRunnerError,
        StepFailedError,
        SmokeGateError,
        TrustError,
        FitError,
        StoreError,
        RolledBackError,
    )
}


def not_found(what: str, name: str, known: Iterable[str], *, why: str = "") -> NotFoundError:
    """Return the error for a name that nothing has, with the name that was probably meant.

    Args:
        what: what happened, one sentence without a full stop.
        name: the name that was given.
        known: the names that exist, in the order in which they are listed.
        why: the cause, if known.
    """
    import difflib  # takes longer than the rest of this module

    names = list(dict.fromkeys(known))
    # Two versions of digits are similar by chance.
    cutoff = 0.6 if any(one.isalpha() for one in name) else 0.85
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    hints = [f"did you mean {one!r}?" for one in near] + ([f"known: {shown}"] if names else [])
    return NotFoundError(what, why=why, hint="\n".join(hints))


def from_exit_code(code: int) -> type[ForgeError]:
    """Return the error class of an exit code of Forge; StepFailedError for any other code."""
    return _BY_EXIT_CODE.get(code, StepFailedError)
