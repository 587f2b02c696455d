"""Progress of an upload, download or verification."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Moved", "Progress"]

Progress = Callable[[int, int], None]  # bytes done, bytes in total
Moved = Callable[[int], None]  # bytes downloaded, without what was there already
