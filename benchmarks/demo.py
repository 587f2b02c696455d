"""`make demo` in a fresh clone with empty caches, and again: seconds of each link.

    .venv/bin/python benchmarks/demo.py [--write docs/results/demo.md]

The first run installs everything (packages, tool environments, Triton), the second finds it there.
System packages are there already. The clone is of HEAD: commit first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from machine import describe

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One `make demo`: wall time of all, and seconds as text by link."""

    total_s: float
    links: dict[str, str]


def main() -> int:
    """Run it twice and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="file for the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forge-demo-") as name:
        clone = Path(name) / "forge"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        bare = _demo(clone, Path(name))
        warm = _demo(clone, Path(name))
    text = _page(bare, warm)
    sys.stdout.write(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _demo(clone: Path, home: Path) -> Run:
    report = home / "report.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FORGE_")},
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "FORGE_DEMO_REPORT": str(report),
    }
    began = time.monotonic()
    subprocess.run(["make", "demo"], cwd=clone, env=environment, check=True, stdout=sys.stderr)
    seconds = time.monotonic() - began
    rows = json.loads(report.read_bytes())
    return Run(seconds, {row["link"]: row["seconds"] for row in rows})


def _page(bare: Run, warm: Run) -> str:
    lines = [
        "# `make demo`, first run and repeated",
        "",
        f"{describe()}. One run each, in a clone with empty caches.",
        "",
        "| link | first run, s | repeated, s |",
        "|---|---:|---:|",
        *(f"| {link} | {bare.links[link]} | {warm.links.get(link, '—')} |" for link in bare.links),
        f"| **everything, installation too** | {bare.total_s:.0f} | {warm.total_s:.0f} |",
        "",
        "`stored`: the store had the result. Not part of a link: installing packages, tool",
        "environments and Triton, planning, and starting processes.",
        "",
        "Command: `.venv/bin/python benchmarks/demo.py`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
