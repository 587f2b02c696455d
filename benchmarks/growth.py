"""How the cost of a command grows: profiles of a project, files of a tree.

    .venv/bin/python benchmarks/growth.py [--small] [--write docs/results/growth.md]

The figure is CPU seconds, which other work on the machine changes least. Each row ends with the
exponent between its two largest sizes: 1 is a cost in proportion, 2 is quadratic. The exit code is
1 if one is above 1.1. --small takes the sizes that need less than a minute.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from machine import describe

from forge.store import open_store

ROOT: Final = Path(__file__).resolve().parent.parent
FORGE: Final = Path(sys.executable).parent / "forge"
MOST_EXPONENT: Final = 1.1
Result = TypeVar("Result")
FILE_BYTES: Final = 600


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: is done.
        of: what its sizes count.
        sizes: in rising order.
        seconds: of CPU, for each size.
    """

    what: str
    of: str
    sizes: Sequence[int]
    seconds: Sequence[float]

    @property
    def exponent(self) -> float:
        """Return the exponent between the two largest sizes."""
        (small, large), (before, after) = self.sizes[-2:], self.seconds[-2:]
        return math.log(after / before) / math.log(large / small)


def main() -> int:
    """Measure, print one table, and fail for a cost that grows faster than its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="fewer profiles and files")
    parser.add_argument("--write", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    profiles = (1, 10, 40) if arguments.small else (1, 10, 50, 200)
    files = (100, 1_000, 4_000) if arguments.small else (1_000, 10_000, 40_000)
    rows = [
        _row("forge plan release", "profiles", profiles, _plan),
        _row("forge check", "profiles", profiles, _check),
        *_trees(files),
    ]
    text = _table(rows)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    steep = [row.what for row in rows if row.exponent > MOST_EXPONENT]
    if steep:
        print(f"These grow faster than their size: {', '.join(steep)}", file=sys.stderr)
    return int(bool(steep))


def _row(what: str, of: str, sizes: Sequence[int], measure: Callable[[int], float]) -> Row:
    return Row(what, of, sizes, [measure(size) for size in sizes])


def _plan(profiles: int) -> float:
    return _command(profiles, "plan", "release", "--name", "llm", "--version", "1.0.0", "--json")


def _check(profiles: int) -> float:
    return _command(profiles, "check")


def _command(profiles: int, *words: str) -> float:
    """Return the CPU seconds of a command in a project with that many profiles."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        for folder in ("pipelines", "stages", "dockerfiles", "profiles"):
            shutil.copytree(ROOT / folder, project / folder)
        _multiply(project / "profiles", profiles)
        before = os.times()
        subprocess.run([FORGE, *words], cwd=project, stdout=subprocess.DEVNULL, check=True)
        after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def _multiply(folder: Path, number: int) -> None:
    text = (folder / "development.yaml").read_text(encoding="utf-8")
    for path in folder.glob("*.yaml"):
        if path.name != "defaults.yaml":
            path.unlink()
    for one in range(number):
        (folder / f"development-{one}.yaml").write_text(text, encoding="utf-8")


def _trees(sizes: Sequence[int]) -> list[Row]:
    """Return rows of trees whose files have all the same size, the worst case of a seed."""
    names = ("put", "pull", "pull with an equal seed of other names")
    found: dict[str, list[float]] = {name: [] for name in names}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            for what, seconds in zip(names, _tree(Path(name), size), strict=True):
                found[what].append(seconds)
    return [Row(what, "files of equal size", sizes, seconds) for what, seconds in found.items()]


def _tree(folder: Path, files: int) -> tuple[float, float, float]:
    source, seed = folder / "source", folder / "seed"
    for number in range(files):
        data = number.to_bytes(8, "big") + bytes(FILE_BYTES - 8)
        for path in (source / f"{number % 100}" / f"{number}", seed / f"other-{files - number}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    store = open_store(str(folder / "store"), cache=folder / "cache", environment={})
    tree, put = _timed(lambda: store.put_tree(source))
    _, pull = _timed(lambda: store.unpack(tree.digest, folder / "a"))
    _, seeded = _timed(lambda: store.unpack(tree.digest, folder / "b", seeds=[seed]))
    return put, pull, seeded


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    before = os.times()
    result = work()
    after = os.times()
    return result, after.user + after.system - before.user - before.system


def _table(rows: Sequence[Row]) -> str:
    lines = ["# Growth", "", f"{describe()}. CPU seconds; load {os.getloadavg()[0]:.1f}.", ""]
    lines += ["| what | sizes | CPU s | exponent |", "|---|---|---|---:|"]
    for row in rows:
        sizes = ", ".join(f"{size:,}" for size in row.sizes)
        seconds = ", ".join(f"{one:.2f}" for one in row.seconds)
        lines.append(f"| {row.what} | {sizes} {row.of} | {seconds} | {row.exponent:.2f} |")
    lines += ["", "Command: `.venv/bin/python benchmarks/growth.py`", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
