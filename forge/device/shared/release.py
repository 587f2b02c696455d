"""A release and the names of the two slots."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from forge import canonical
from forge.bundle import Digest, Manifest

__all__ = ["SLOTS", "Release", "SlotName", "other"]

SlotName = Literal["a", "b"]
SLOTS: Final[tuple[SlotName, SlotName]] = ("a", "b")


class Release(BaseModel):
    """One profile of one bundle version, by the digest of its manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    profile: str
    manifest: Digest

    @classmethod
    def of(cls, manifest: Manifest) -> Release:
        """Return the release that a manifest describes."""
        return cls(
            name=manifest.name,
            version=manifest.version,
            profile=manifest.profile,
            manifest=canonical.sha256(manifest.encode()),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.profile})"


def other(slot: SlotName | None) -> SlotName:
    """Return the other slot; `a` for None."""
    return "b" if slot == "a" else "a"
