"""Where Forge's own lock lies: what images of Forge itself install."""

from __future__ import annotations

from pathlib import Path

import forge

__all__ = ["own_lock"]


def own_lock() -> Path:
    """Forge's own lock: shipped in the wheel, in a checkout the repository's."""
    package = Path(forge.__file__).parent
    shipped = package / "template" / "requirements.lock"
    return shipped if shipped.is_file() else package.parent / "requirements.lock"
