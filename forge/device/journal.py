"""What the device was doing, kept so that it can go on after a power cut at any instant.

`state.json` in the state folder; replaced as a whole, fsynced before anything it announces is done.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forge import canonical
from forge.bundle import Digest, Manifest

__all__ = ["SLOTS", "Journal", "Release", "SlotName", "State", "Verdict", "other"]

State = Literal["idle", "fetching", "staged", "activating", "probing", "committed", "rolling-back"]
SlotName = Literal["a", "b"]
SLOTS: Final[tuple[SlotName, SlotName]] = ("a", "b")
Reason = Annotated[str, Field(max_length=8192)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Release(_Document):
    """One profile of one bundle version, by the digest of its manifest."""

    name: str
    version: str
    profile: str
    manifest: Digest

    @classmethod
    def of(cls, manifest: Manifest) -> Release:
        """The release a manifest describes."""
        return cls(
            name=manifest.name,
            version=manifest.version,
            profile=manifest.profile,
            manifest=canonical.sha256(manifest.encode()),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.profile})"


class Verdict(_Document):
    """Why a release was not kept."""

    release: Release
    reason: Reason
    at: str = Field(description="RFC 3339, UTC")


class Journal(_Document):
    """Everything that must survive a restart.

    Attributes:
        state: what the agent is doing.
        active: the slot that passed its probe last; what serves, and what is gone back to.
        target: the slot an update is put into.
        candidate: the release that is put there.
        slots: what each slot holds, verified.
        attempts: starts of the agent during this activation.
        blue_green: the activation under way leaves what serves running until it is committed.
        previous: what the other slot holds, if it served once: there the device can go back to.
        crashes: how often in a row the active slot's server ended soon after it began.
        bad: releases not to be tried again.
        held: the release that was gone back from by hand; not installed again by itself.
        rollbacks: why the device went back, or did not install; the newest last.
    """

    schema_version: Literal[1] = 1
    state: State = "idle"
    active: SlotName | None = None
    target: SlotName | None = None
    candidate: Release | None = None
    slots: dict[SlotName, Release] = {}
    attempts: int = Field(default=0, ge=0)
    blue_green: bool = False
    previous: Release | None = None
    crashes: int = Field(default=0, ge=0)
    bad: tuple[Verdict, ...] = ()
    held: Verdict | None = None
    rollbacks: tuple[Verdict, ...] = ()

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
        """What the active slot holds."""
        return self.slots.get(self.active) if self.active else None

    def is_bad(self, release: Release) -> Verdict | None:
        """The verdict on this very release, if there is one."""
        found = (entry for entry in self.bad if entry.release.manifest == release.manifest)
        return next(found, None)

    def is_held(self, release: Release) -> Verdict | None:
        """Why this very release was gone back from by hand, if it was."""
        held = self.held
        return held if held and held.release.manifest == release.manifest else None


def other(slot: SlotName | None) -> SlotName:
    """The slot that is not this one; `a` when there is none."""
    return "b" if slot == "a" else "a"
