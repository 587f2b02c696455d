"""Which content this device has seen under each version: a version never means other content.

`seen.json` holds the newest ones. A file that is lost or damaged is begun again: it protects
against a publisher's stolen keys, and must not keep a device from its updates.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from forge.bundle import Digest, Manifest
from forge.device.state import disk_errors
from forge.errors import TrustError
from forge.files import write_durably

__all__ = ["SeenVersions"]

_log = logging.getLogger(__name__)
_FILE: Final = "seen.json"
_MAX_BYTES: Final = 1024 * 1024
_KEPT: Final = 256  # versions; two a day for four months


class _Seen(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    identities: dict[str, Digest] = {}


class SeenVersions:
    """The versions that a device was offered.

    Args:
        folder: the device's state directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _FILE

    def check(self, manifest: Manifest) -> None:
        """Remember what a version contains.

        Raises:
            TrustError: it contained something else before; proofs and times may differ.
            StoreError, ConfigurationError: the file cannot be read or written.
        """
        key = f"{manifest.name}/{manifest.version}/{manifest.profile}"
        identity, seen = manifest.identity(), self._read()
        known = seen.get(key)
        if known == identity:
            return
        if known is not None:
            raise TrustError(
                f"{manifest.name} {manifest.version} for {manifest.profile} is not what it was",
                why=f"under this version the device has seen {known[:12]} and not {identity[:12]}",
                hint="publish other content under a version of its own",
            )
        self._write({**dict(list(seen.items())[1 - _KEPT :]), key: identity})

    def _read(self) -> dict[str, Digest]:
        try:
            with self._path.open("rb") as file:
                return _Seen.model_validate_json(file.read(_MAX_BYTES)).identities
        except FileNotFoundError:
            return {}
        except ValidationError:
            _log.warning("%s is damaged and is begun again", self._path)
            return {}
        except OSError as error:
            raise disk_errors.unreadable(self._folder, error) from None

    def _write(self, identities: dict[str, Digest]) -> None:
        # Not sorted: the order is that in which they were seen.
        try:
            write_durably(self._path, _Seen(identities=identities).model_dump_json().encode())
        except OSError as error:
            raise disk_errors.unwritable(self._folder, error) from None
