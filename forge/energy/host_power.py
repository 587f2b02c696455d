"""Read the power of a machine that computes on its own chip: a Jetson's board, or a processor."""

from __future__ import annotations

import time
from collections.abc import Callable

from forge.energy.power_reading import PowerReading
from forge.energy.rails import board_power
from forge.energy.rapl import RaplPower
from forge.system_files import SystemFiles

__all__ = ["HostPower"]


class HostPower:
    """The power of one machine, again and again. It never raises for a file that fails.

    A board that measures its rails is asked for them, also for one that cannot be read now; another
    machine for the counters of its processor packages.

    Args:
        files: of the machine.
        clock: monotonic, s.
    """

    def __init__(self, files: SystemFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._rapl = RaplPower(files, clock)

    def __call__(self) -> PowerReading:
        """Read the power once."""
        board = board_power(self._files)
        if board.source is not None:
            return board
        packages = self._rapl()
        if packages.source is not None:
            return packages
        problem = f"{board.problem}; {packages.problem}"
        return PowerReading(rails=board.rails, problem=problem)
