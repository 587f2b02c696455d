"""The tables of docs/results/heat.md: Forge's governor and others on simulated bodies.

python benchmarks/heat.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.heat_bodies import BODIES, Body, Outcome, simulate
from tests.support.heat_controllers import CONTROLLERS


def main() -> None:
    """Print a table for hardware that says whether it throttles, and one for the rest."""
    for title, guarded in (("hardware that throttles and says so", True), ("the rest", False)):
        bodies = [body for body in BODIES if body.guarded == guarded]
        names = " | ".join(CONTROLLERS)
        print(f"\n{title}: service %, time above trip %, changes an hour\n")
        print(f"| body | {names} | Forge: clock, hottest °C |")
        print("|---|" + "---|" * (len(CONTROLLERS) + 1))
        outcomes = [_outcomes(body) for body in bodies]
        for body, found in zip(bodies, outcomes, strict=True):
            ours = found[0]
            beside = f"{ours.clock:.2f}, {ours.hottest_c:.1f}"
            print(f"| {body.name} | {' | '.join(map(_cell, found))} | {beside} |")
        print(f"| **mean** | {' | '.join(map(_mean, zip(*outcomes, strict=True)))} | |")


def _outcomes(body: Body) -> list[Outcome]:
    return [simulate(body, make(body)) for make in CONTROLLERS.values()]


def _mean(found: Sequence[Outcome]) -> str:
    service, above, changes = (
        sum(values) / len(found)
        for values in zip(*((one.service, one.above, one.changes) for one in found), strict=True)
    )
    return _figures(service, above, changes)


def _cell(one: Outcome) -> str:
    return _figures(one.service, one.above, one.changes)


def _figures(service: float, above: float, changes: float) -> str:
    return f"{100 * service:.1f}, {100 * above:.1f}, {changes:.1f}"


if __name__ == "__main__":
    main()
