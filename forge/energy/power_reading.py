"""What one reading of power says: watts, of what, measured by whom; or why they are not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["NO_READING", "PowerReading", "PowerSource", "RailPower"]

PowerSource: TypeAlias = Literal["nvidia-smi", "hwmon", "rapl"]


@dataclass(frozen=True, slots=True)
class RailPower:
    """One rail of a board, a GPU, or a processor package.

    Attributes:
        name: of the rail, by the hardware's own label.
        watts: None: it is there and could not be read now. A rail at rest may read a little below
            0: the monitors have an offset.
    """

    name: str
    watts: float | None


@dataclass(frozen=True, slots=True)
class PowerReading:
    """Power at one time.

    Attributes:
        watts: of what serves; None: not known now.
        source: who measures it; None: no one here.
        scope: what `watts` is the power of: a GPU's name, or the rails that are added.
        is_mean: whether `watts` is the mean since the reading before, rather than of this moment.
        rails: what was read, parts of `watts` among them.
        problem: why `watts` is not known; empty if it is.
    """

    watts: float | None = None
    source: PowerSource | None = None
    scope: str = ""
    is_mean: bool = False
    rails: tuple[RailPower, ...] = ()
    problem: str = ""


NO_READING: Final = PowerReading(problem="nothing was read")
