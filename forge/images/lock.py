"""Forge's own lock files, which images of Forge install."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import forge

__all__ = ["device_lock", "own_lock"]

DATA_FILES: Final = ()  # for a step's key: a step that installs this lock names it itself


def own_lock() -> Path:
    """Return the lock file with everything that a release requires."""
    return _lock("requirements.lock")


def device_lock() -> Path:
    """Return the lock file with everything that a device requires, including S3 stores."""
    return _lock("requirements-device-s3.lock")


def _lock(name: str) -> Path:
    """Return a lock file: from the wheel, or in a checkout from the repository."""
    package = Path(forge.__file__).parent
    shipped = package / "template" / name
    return shipped if shipped.is_file() else package.parent / name
