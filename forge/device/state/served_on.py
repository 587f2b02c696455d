"""On which versions of the system each release has served here: `served-on.json`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from forge.device.hardware.system_versions import SystemVersions
from forge.device.shared.release import Release
from forge.files import write_durably

__all__ = ["ServedOn"]

_MAX_BYTES: Final = 256 * 1024
_KEPT: Final = 8  # releases


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    served: dict[str, SystemVersions] = {}  # by digest of the manifest, the newest last


@dataclass(frozen=True, slots=True)
class ServedOn:
    """The record of a state directory. It explains failures and decides nothing: it may be lost.

    Attributes:
        path: the state directory.
    """

    path: Path

    def read(self, release: Release) -> SystemVersions | None:
        """Return the system on which a release served last; None if that is not known."""
        return self._read().get(release.manifest)

    def note(self, release: Release, system: SystemVersions) -> None:
        """Note that a release serves on this system. A disk that fails must not end what serves."""
        served = self._read()
        before = served.pop(release.manifest, None)
        now = system.known_since(before) if before else system
        if now == before:
            return
        kept = dict([*served.items(), (release.manifest, now)][-_KEPT:])
        with contextlib.suppress(OSError):
            # Not sorted: the order is that in which they served.
            data = _Document(served=kept).model_dump_json().encode()
            write_durably(self.path / "served-on.json", data)

    def _read(self) -> dict[str, SystemVersions]:
        try:
            with (self.path / "served-on.json").open("rb") as file:
                return dict(_Document.model_validate_json(file.read(_MAX_BYTES)).served)
        except (OSError, ValidationError):
            return {}
