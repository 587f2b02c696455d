"""How soon a release is tried again that failed through no fault of its own."""

from __future__ import annotations

from typing import Final

from forge.device.journal import Release

__all__ = ["Patience"]

_MOST: Final = 63  # an hour, at a look each minute


class Patience:
    """Lets ever more looks at the channel pass after each failure of the same release.

    Counted in looks, so that it follows the device's own pace; forgotten when the agent starts, so
    that a restart tries at once.
    """

    def __init__(self) -> None:
        self._release: Release | None = None
        self._failures = 0
        self._left = 0

    def failed(self, release: Release) -> int:
        """It failed once more. Returns how many looks will pass: 0, 1, 3, 7 … 63."""
        self._failures = self._failures + 1 if release == self._release else 1
        self._release = release
        self._left = min(_MOST, 2 ** (self._failures - 1) - 1)
        return self._left

    def lets_pass(self, release: Release) -> bool:
        """Whether this look is to pass without a try. Another release is tried at once."""
        if release != self._release or self._left == 0:
            return False
        self._left -= 1
        return True
