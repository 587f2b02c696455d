"""Every error of Forge and the exit code it ends the program with.

    ForgeError                 1
     ├─ UsageError             2   the command line asks for something that cannot be
     ├─ ConfigurationError     3   a profile, pipeline, lock or checkpoint is wrong
     │   └─ BundleError        3   a bundle's own files are not what they must be
     ├─ NoRunnerError          4   nothing here can run this step
     ├─ StepFailedError        5   a step's command failed
     │   ├─ LoadFailedError    5   a server's model did not load
     │   └─ PortTakenError     5   somebody else listens where a server was to
     ├─ SmokeGateError         6   measured worse than the profile allows
     ├─ TrustError             7   a signature, digest or expiry does not hold
     ├─ FitError               8   the bundle does not fit this device
     ├─ StoreError             9   the store is out of reach, full, or damaged
     │   ├─ NotInStoreError    9   an object that is not there
     │   ├─ ConflictError      9   somebody else wrote first
     │   └─ CorruptedError     9   bytes that do not have the digest they should
     └─ RolledBackError       10   the device went back to its previous slot

A message says what happened, why, and what to do next.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BundleError",
    "ConfigurationError",
    "ConflictError",
    "CorruptedError",
    "FitError",
    "ForgeError",
    "LoadFailedError",
    "NoRunnerError",
    "NotInStoreError",
    "PortTakenError",
    "RolledBackError",
    "SmokeGateError",
    "StepFailedError",
    "StoreError",
    "TrustError",
    "UsageError",
    "from_exit_code",
]


class ForgeError(Exception):
    """An error with a place to go from.

    Args:
        what: what happened, one sentence without a full stop.
        why: the cause, if it is known.
        hint: what to do next, with the command to do it.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}\n  → {self.hint}" if self.hint else text


class UsageError(ForgeError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigurationError(ForgeError):
    """A profile, pipeline, lock or checkpoint is wrong."""

    exit_code = 3


class BundleError(ConfigurationError):
    """A bundle's own files are not what they must be: no machine could serve them."""


class NoRunnerError(ForgeError):
    """Nothing here can run this step."""

    exit_code = 4


class StepFailedError(ForgeError):
    """A step's command failed."""

    exit_code = 5


class LoadFailedError(StepFailedError):
    """A server started and its model did not load, or not in time."""


class PortTakenError(StepFailedError):
    """Somebody else listens where a server was to."""


class SmokeGateError(ForgeError):
    """The smoke benchmark measured worse than the profile allows."""

    exit_code = 6


class TrustError(ForgeError):
    """A signature, digest or expiry does not hold."""

    exit_code = 7


class FitError(ForgeError):
    """The bundle does not fit this device."""

    exit_code = 8


class StoreError(ForgeError):
    """The store is out of reach, full, or damaged."""

    exit_code = 9


class NotInStoreError(StoreError):
    """An object is not in the store."""


class ConflictError(StoreError):
    """Somebody else wrote the same object first."""


class CorruptedError(StoreError):
    """Stored bytes do not have the digest they should."""


class RolledBackError(ForgeError):
    """The device went back to its previous slot."""

    exit_code = 10


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


def from_exit_code(code: int) -> type[ForgeError]:
    """The class for a Forge process that ended with `code`; StepFailedError for any other."""
    return _BY_EXIT_CODE.get(code, StepFailedError)
