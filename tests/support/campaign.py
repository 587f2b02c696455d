"""Which of many points a fault test tries this time, and what it found, for docs/results/faults.md.

FORGE_FAULTS_SEED     which points a bounded test takes; without it the day's number
FORGE_FAULTS_POINTS   at most so many points, in exhaustive tests too
FORGE_FAULTS_AT       these points and no others, to see a failure again: 17,18
FORGE_FAULTS_OUT      folder for one JSON file a test; without it `faults` in pytest's own
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

__all__ = ["Campaign", "sample", "seed"]

_AGAIN = "FORGE_FAULTS_SEED"


def seed() -> int:
    """What FORGE_FAULTS_SEED says, else the number of the day: another part each day."""
    return int(os.environ.get("FORGE_FAULTS_SEED") or dt.datetime.now(dt.UTC).toordinal())


def sample(total: int, most: int | None) -> list[int]:
    """At most so many of 1…total, one from each of equal stretches; all of them for None."""
    if given := os.environ.get("FORGE_FAULTS_AT"):
        return [int(one) for one in given.split(",")]
    if limit := os.environ.get("FORGE_FAULTS_POINTS"):
        most = int(limit) if most is None else min(most, int(limit))
    if most is None or most >= total:
        return list(range(1, total + 1))
    chosen = random.Random(seed())  # noqa: S311 - no key
    edges = [1 + total * part // most for part in range(most + 1)]
    return [chosen.randrange(low, high) for low, high in pairwise(edges)]


@dataclass
class Campaign:
    """Many points of one fault.

    Attributes:
        folder: where the numbers are written.
        name: file name.
        what: a line of the table: the fault and what it met.
        unit: of what the points are.
        possible: points there are.
        tried: points that were tried.
        served: of these, how many had the real Triton answer straight after the fault as well.
        failures: what went wrong, a text for each point.
        seconds: of wall time.
    """

    folder: Path
    name: str
    what: str
    unit: str
    possible: int = 0
    tried: int = 0
    served: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def finish(self) -> None:
        """Write the numbers, print them, and fail if there was a failure."""
        self.seconds = round(time.monotonic() - self.began, 1)
        numbers = {key: value for key, value in asdict(self).items() if key != "folder"}
        numbers |= {"survived": self.tried - len(self.failures), "seed": seed()}
        numbers["at"] = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{self.name}.json").write_text(json.dumps(numbers, default=str, indent=1))
        tried = f"{self.tried} of {self.possible} {self.unit} tried"
        sys.stdout.write(f"{self.what}: {tried}, {len(self.failures)} failed, {_AGAIN}={seed()}\n")
        assert self.tried > 0
        assert not self.failures, "\n\n".join(self.failures)
