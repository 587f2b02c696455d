"""Energy and throttling during the benchmark, of what serves and as far as the machine says.

Energy in joules, of the first of these that measures what serves:

- a GPU with memory of its own: nvidia-smi's `power.draw` of that GPU;
- a GPU in the machine's chip: the rails of the board (Jetson), else nvidia-smi's (DGX Spark);
- a CPU: the rails of the board, else the kernel's RAPL counters, which only root may read.

Power is sampled each half second and integrated; RAPL counts by itself. A run in which no sample
could be read for 5 s has no energy. Where a GPU serves and its power is not known, the processor's
is not put in its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from forge import nvidia_smi
from forge.energy.gpu_power import POWER_FIELD, gpu_power
from forge.energy.integral import PowerSample, integrate_j
from forge.energy.power_reading import PowerReading, PowerSource
from forge.energy.rails import board_power, read_rails
from forge.energy.rapl import NO_COUNTER, rapl_counters, rapl_j, rapl_ranges
from forge.smoke.gpu_choice import ChosenGpu
from forge.smoke.result import Conditions
from forge.system_files import RootFiles
from forge.throttling import UNKNOWN, Throttling, of_reasons, read_cooling, since

__all__ = ["EnergyMeter", "EnergyReading", "reason_name"]

_PERIOD_S: Final = 0.5
_FIELDS: Final = f"--query-gpu=index,uuid,{POWER_FIELD}"
# Drivers before 535 have clocks_throttle_reasons, old ones neither.
_QUERIES: Final = (
    f"{_FIELDS},clocks_event_reasons.active",
    f"{_FIELDS},clocks_throttle_reasons.active",
    _FIELDS,
)
_CELLS: Final = (3, 4)
_NO_FIELD: Final = "not a valid field"


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """Power was read from one time to another, which may take long: a run ends at the first.

    Attributes:
        began: s of the meter's clock.
        began_uj: RAPL's counters at that time, by package.
        ended: s; a run that follows begins here.
        ended_uj: RAPL's counters at that time.
    """

    began: float
    began_uj: Mapping[str, int]
    ended: float
    ended_uj: Mapping[str, int]


@dataclass
class EnergyMeter:
    """Samples power and throttling in a thread, from entering the context to leaving it.

    Attributes:
        chosen: what serves.
        ask: asks nvidia-smi one query; its rows count with any exit code.
        root: where /sys is.
        clock: monotonic, s.
    """

    chosen: ChosenGpu
    ask: Callable[[str], nvidia_smi.SmiAnswer]
    root: Path = Path("/")
    clock: Callable[[], float] = time.monotonic
    _samples: list[tuple[float, PowerReading, Throttling]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _before: Throttling = UNKNOWN
    _has_rails: bool = False
    _query: int = 0
    _note: str = ""

    def __enter__(self) -> Self:
        """Begin to sample; where nothing but RAPL measures, no thread is started."""
        self._before = self._cooling()
        self._has_rails = bool(read_rails(RootFiles(self.root)))
        reading = self._sample()
        if reading.source is not None or self.chosen.on in {"card", "soc"}:
            self._thread = threading.Thread(target=self._loop, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def reading(self) -> EnergyReading:
        """Return a reading, to take the difference of two."""
        files = RootFiles(self.root)
        began, counters = self.clock(), rapl_counters(files)
        self._sample()
        return EnergyReading(began, counters, self.clock(), rapl_counters(files))

    def joules(self, before: EnergyReading, after: EnergyReading) -> float | None:
        """Return the energy between two readings; None if it is not known."""
        source, begin, end = self._source(), before.ended, after.began
        if source == "rapl":
            ranges = rapl_ranges(RootFiles(self.root))
            return rapl_j(before.ended_uj, after.began_uj, ranges, end - begin)
        measured = (source, self._scope(source))
        known = [
            PowerSample(at, power.watts if (power.source, power.scope) == measured else None)
            for at, power, _ in sorted(self._samples, key=lambda one: one[0])
        ]
        return integrate_j(known, begin, end)

    def conditions(self) -> Conditions:
        """Return what held since the context was entered."""
        seen = [throttling for _, _, throttling in tuple(self._samples)]
        said = [one.in_force for one in seen if one.in_force is not None]
        reasons = (name for one in seen for name in (*one.reasons, *one.power_reasons))
        source = self._source()
        return Conditions(
            throttled=any(said) if said else None,
            throttle_reasons=tuple(dict.fromkeys(map(reason_name, reasons))),
            energy_source=source,
            energy_of=self._scope(source),
            energy_problem="" if source else self._problem(),
        )

    def _source(self) -> PowerSource | None:
        """Return who measures: who knew the power first."""
        known = (power.source for _, power, _ in tuple(self._samples) if power.watts is not None)
        counts = self.chosen.on == "cpu" and rapl_counters(RootFiles(self.root))
        return next(known, None) or ("rapl" if counts else None)

    def _scope(self, source: PowerSource | None) -> str:
        if source == "rapl":
            return " + ".join(rapl_counters(RootFiles(self.root)))
        seen = (power for _, power, _ in tuple(self._samples) if power.source == source)
        scopes = (power.scope for power in seen if power.watts is not None)
        return next(scopes, "") if source else ""

    def _problem(self) -> str:
        """Return the last reason for which the power was not known."""
        problems = [power.problem for _, power, _ in tuple(self._samples) if power.problem]
        return problems[-1] if problems else "nothing was read"

    def _loop(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self._sample()

    def _sample(self) -> PowerReading:
        """Read power and throttling once; what fails is a sample in which it is not known."""
        # A Jetson's own GPU says nothing to nvidia-smi that its rails and cooling devices do not.
        alone = self.chosen.on == "soc" and self.chosen.gpu is not None and not self._has_rails
        row = self._row() if alone or self.chosen.on == "card" else None
        power, throttling = self._power(row), self._throttling(row)
        self._samples.append((self.clock(), power, throttling))
        return power

    def _power(self, row: nvidia_smi.Row | None) -> PowerReading:
        if self.chosen.on == "unknown" or self.chosen.problem:
            return PowerReading(problem=self.chosen.problem)
        cell = row[2] if row else None
        of_gpu = gpu_power(cell, self.chosen.name, is_slice=self.chosen.is_slice, note=self._note)
        if self.chosen.on == "card":
            return of_gpu
        board = board_power(RootFiles(self.root))
        if board.source is None and self.chosen.on == "soc" and row:
            return of_gpu
        if board.source is None and self.chosen.on == "cpu":  # RAPL counts by itself, or not at all
            return replace(board, problem=f"{board.problem}; {NO_COUNTER}")
        return board

    def _throttling(self, row: nvidia_smi.Row | None) -> Throttling:
        of_gpu = of_reasons(row[3], None, None) if row and len(row) == max(_CELLS) else UNKNOWN
        if self.chosen.on == "card":
            return of_gpu
        now = self._cooling()
        found, self._before = since(self._before, now), now
        return found if of_gpu is UNKNOWN or not of_gpu.in_force else of_gpu

    def _cooling(self) -> Throttling:
        return UNKNOWN if self.chosen.on == "card" else read_cooling(self.root)

    def _row(self) -> nvidia_smi.Row | None:
        """Return the row of what serves: index, UUID, power, reasons; None without one."""
        while True:
            answer = self.ask(_QUERIES[self._query])
            refused = not answer.rows and _NO_FIELD in answer.note
            if not refused or self._query == len(_QUERIES) - 1:
                break
            self._query += 1
        self._note = answer.note
        rows = (row for row in answer.rows if len(row) in _CELLS)
        return next((row for row in rows if self.chosen.is_of(row[0], row[1])), None)


def reason_name(reason: str) -> str:
    """Return what users read of a reason: a counter of the kernel is named by its file."""
    if reason.endswith("package_throttle_count"):
        return "CPU thermal throttling"
    if reason.endswith("_event_cnt"):
        return f"over-current {reason.rpartition('/')[2].removesuffix('_event_cnt')}"
    return reason
