"""The journal of updates, from which the agent continues after a power cut at any time.

It is `state.json` in the state directory, replaced atomically and fsynced before the action that it
names is executed.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forge import canonical
from forge.device.shared.release import Release, SlotName

__all__ = ["FailedRelease", "InterruptedRelease", "Journal", "UpdateState"]

UpdateState = Literal[
    "idle", "fetching", "staged", "activating", "probing", "committed", "rolling-back"
]
# Earlier agents counted three restarts during an activation against the release.
_BY_RESTARTS: Final = re.compile(r"the agent exited \d+ times while it activated this bundle")
Reason = Annotated[str, Field(max_length=8192)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FailedRelease(_Document):
    """A release that was not kept, and the reason."""

    release: Release
    reason: Reason
    at: str = Field(description="RFC 3339, UTC")


class InterruptedRelease(_Document):
    """A release whose activation was interrupted too often: it is tried again later.

    Attributes:
        release: which.
        times: how often the device has given it up for now.
        checks: of the channel that pass until it is tried again; 0: at the next one.
        reason: what interrupted it.
        at: when it was last given up, RFC 3339, UTC.
    """

    release: Release
    times: int = Field(ge=1)
    checks: int = Field(ge=0)
    reason: Reason
    at: str


class Journal(_Document):
    """Everything that must survive a restart.

    Attributes:
        state: what the agent is doing.
        active: the slot that passed its probe last; it serves, and a rollback returns to it.
        target: the slot that an update is installed into.
        candidate: the release that is installed there.
        slots: the verified release in each slot.
        attempts: starts of the candidate in this activation, and restarts of the agent while its
            environment and engine were made.
        blue_green: the current activation keeps the active slot running until it is committed.
        previous: the release in the other slot, if it has served: an operator can roll back to it.
        crashes: consecutive exits of the active slot's server soon after its start.
        bad: releases that are not tried again.
        held: the release that an operator rolled back from; not installed again automatically.
        rollbacks: rollbacks and failed installations with their reasons; the newest last.
        interrupted: the release that was given up for now.
    """

    schema_version: Literal[1] = 1
    state: UpdateState = "idle"
    active: SlotName | None = None
    target: SlotName | None = None
    candidate: Release | None = None
    slots: dict[SlotName, Release] = {}
    attempts: int = Field(default=0, ge=0)
    blue_green: bool = False
    previous: Release | None = None
    crashes: int = Field(default=0, ge=0)
    bad: tuple[FailedRelease, ...] = ()
    held: FailedRelease | None = None
    rollbacks: tuple[FailedRelease, ...] = ()
    interrupted: InterruptedRelease | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.state in {"fetching", "staged", "activating", "probing"}:
            if self.target is None or self.candidate is None or self.target == self.active:
                raise ValueError("an update under way needs a candidate and the inactive slot")
        elif self.active is None and self.state == "committed":
            raise ValueError("a committed device needs an active slot")
        return self

    def encode(self) -> bytes:
        """Return the document.

        Earlier agents refuse a field that they do not know: `interrupted` is there only where it
        says something.
        """
        unsaid = {"interrupted"} if self.interrupted is None else None
        return canonical.dumps(self.model_dump(exclude=unsaid))

    def without_restarts(self) -> Journal:
        """Return the journal without verdicts of earlier agents that only restarts led to."""
        bad = tuple(one for one in self.bad if not _BY_RESTARTS.fullmatch(one.reason))
        return self if bad == self.bad else self.model_copy(update={"bad": bad})

    @property
    def active_release(self) -> Release | None:
        """Return the release in the active slot."""
        return self.slots.get(self.active) if self.active else None

    def is_bad(self, release: Release) -> FailedRelease | None:
        """Return why exactly this release is not tried again; None if it may be."""
        found = (entry for entry in self.bad if entry.release.manifest == release.manifest)
        return next(found, None)

    def is_held(self, release: Release) -> FailedRelease | None:
        """Return why an operator rolled back from exactly this release; None if not."""
        held = self.held
        return held if held and held.release.manifest == release.manifest else None

    def is_interrupted(self, release: Release) -> InterruptedRelease | None:
        """Return what interrupted exactly this release too often; None if nothing did."""
        found = self.interrupted
        return found if found and found.release.manifest == release.manifest else None
