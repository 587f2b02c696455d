"""The journal of updates, from which the agent continues after a power cut at any time.

It is `state.json` in the state directory, replaced atomically and fsynced before the action that it
names is executed.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forge.device.shared.release import Release, SlotName

__all__ = ["FailedRelease", "Journal", "UpdateState"]

UpdateState = Literal[
    "idle", "fetching", "staged", "activating", "probing", "committed", "rolling-back"
]
Reason = Annotated[str, Field(max_length=8192)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FailedRelease(_Document):
    """A release that was not kept, and the reason."""

    release: Release
    reason: Reason
    at: str = Field(description="RFC 3339, UTC")


class Journal(_Document):
    """Everything that must survive a restart.

    Attributes:
        state: what the agent is doing.
        active: the slot that passed its probe last; it serves, and a rollback returns to it.
        target: the slot that an update is installed into.
        candidate: the release that is installed there.
        slots: the verified release in each slot.
        attempts: starts of the agent during this activation.
        blue_green: the current activation keeps the active slot running until it is committed.
        previous: the release in the other slot, if it has served: an operator can roll back to it.
        crashes: consecutive exits of the active slot's server soon after its start.
        bad: releases that are not tried again.
        held: the release that an operator rolled back from; not installed again automatically.
        rollbacks: rollbacks and failed installations with their reasons; the newest last.
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

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.state in {"fetching", "staged", "activating", "probing"}:
            if self.target is None or self.candidate is None or self.target == self.active:
                raise ValueError("an update under way needs a candidate and the inactive slot")
        elif self.active is None and self.state == "committed":
            raise ValueError("a committed device needs an active slot")
        return self

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
