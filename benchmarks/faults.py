"""The table of docs/results/faults.md from what the fault tests wrote.

FORGE_FAULTS_OUT=FOLDER make test-all
python benchmarks/faults.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TypedDict

from machine import describe

_PLACES = "system calls"


class Numbers(TypedDict):
    """What a test wrote (tests/support/campaign.py)."""

    name: str
    what: str
    unit: str
    possible: int
    tried: int
    survived: int
    served: int
    seconds: float
    seed: int
    at: str


def main(folder: Path) -> None:
    """Print one line for each fault, and one for all damaged documents."""
    found: list[Numbers] = [json.loads(one.read_text()) for one in sorted(folder.glob("*.json"))]
    places = [one for one in found if one["unit"] == _PLACES]
    print(describe())
    print(f"Tested on {', '.join(sorted({one['at'] for one in found}))}\n")
    print("| fault | system calls | tried | survived | served at once | minutes |")
    print("|---|---|---|---|---|---|")
    for one in places:
        print(_line(one))
    print("\n| damaged document | inputs | refused clearly or read correctly |")
    print("|---|---|---|")
    documents = [one for one in found if one["unit"] != _PLACES]
    for one in documents:
        print(f"| {one['what'].removeprefix('damaged ')} | {one['tried']} | {one['survived']} |")
    tried, survived = (sum(one[key] for one in documents) for key in ("tried", "survived"))
    print(f"| all {len(documents)} | {tried} | {survived} |")


def _line(one: Numbers) -> str:
    cells = (one["possible"], one["tried"], one["survived"], one["served"] or "")
    return f"| {one['what']} | {' | '.join(map(str, cells))} | {one['seconds'] / 60:.1f} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
