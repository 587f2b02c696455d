"""When a release is retried that failed for a reason that is not its own."""

from __future__ import annotations

from typing import Final

from forge.device.shared.release import Release

__all__ = ["ReleaseBackoff"]

_MAX_SKIPPED: Final = 63  # an hour, with a check each minute


class ReleaseBackoff:
    """Skips more and more checks of the channel after each failure of the same release.

    Counted in checks, so that it follows the device's own interval; forgotten when the agent
    starts, so that a restart retries at once.
    """

    def __init__(self) -> None:
        self._release: Release | None = None
        self._failures = 0
        self._left = 0

    def failed(self, release: Release) -> int:
        """Count a failure; return how many checks will be skipped: 0, 1, 3, 7 … 63."""
        self._failures = self._failures + 1 if release == self._release else 1
        self._release = release
        self._left = min(_MAX_SKIPPED, 2 ** (self._failures - 1) - 1)
        return self._left

    def skips(self, release: Release) -> bool:
        """Whether the release is not tried at this check. Another release is tried at once."""
        if release != self._release or self._left == 0:
            return False
        self._left -= 1
        return True
