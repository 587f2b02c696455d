"""Ask the machine what it is again and again: a driver may come later, fail, or be replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from forge.device.hardware.facts import collect
from forge.device.hardware.inventory import Hardware, parse

__all__ = ["HardwareWatch"]

_FIRST_PAUSE_S: Final = 5.0
_MAX_PAUSE_S: Final = 300.0
_HANGS: Final = "no answer within"


def _read() -> Hardware:
    return parse(collect())


class HardwareWatch:
    """What this machine is, as it last said; safe between threads.

    Args:
        read: reads the hardware; default: of this machine.
        clock: monotonic, s.
    """

    def __init__(
        self,
        read: Callable[[], Hardware] = _read,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Hardware | None = None
        self._problems = 0  # in a row
        self._not_before = 0.0

    def current(self) -> Hardware:
        """Return what the machine last said; it is asked if it never was."""
        with self._lock:
            return self._seen or self._ask()

    def look(self) -> Hardware:
        """Ask the machine again.

        After an nvidia-smi that hangs, which leaves a process in the driver, it is asked ever more
        seldom; until then the last answer holds.
        """
        with self._lock:
            if self._seen is not None and self._clock() < self._not_before:
                return self._seen
            return self._ask()

    @property
    def retry_s(self) -> float | None:
        """Seconds after which to ask again because something is not known; None: all is."""
        with self._lock:
            return self._pause_s() if self._problems else None

    def _ask(self) -> Hardware:
        self._seen = self._read()
        unsure = self._seen.nvidia == "unknown" or not self._seen.complete
        self._problems = self._problems + 1 if unsure or self._hangs() else 0
        self._not_before = self._clock() + (self._pause_s() if self._hangs() else 0.0)
        return self._seen

    def _hangs(self) -> bool:
        return self._seen is not None and any(_HANGS in note for note in self._seen.notes)

    def _pause_s(self) -> float:
        return float(min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._problems - 1, 10)))
