"""A release with nothing to do, beside `dvc repro` on an equal graph with equally large files.

    make demo
    .venv/bin/python benchmarks/nothing_to_do.py [--write docs/results/nothing-to-do.md]

Both are whole processes, Python's start included. DVC comes from benchmarks/requirements.lock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe
from peers import program

ROOT = Path(__file__).resolve().parent.parent
FORGE = Path(sys.executable).parent / "forge"
RELEASE = [str(FORGE), "run", "release", "--profile", "development", "--version"]
RUNS = 7


def main() -> int:
    """Measure both and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="1.0.0", help="the version the demo published")
    parser.add_argument("--write", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    release = [*RELEASE, arguments.version]
    steps = _steps(release)
    rows = [("forge run release", *_time(release, ROOT))]
    with tempfile.TemporaryDirectory() as name:
        dvc = program("dvc")
        _make_dvc_project(Path(name), steps, dvc)
        rows.append(("dvc repro", *_time([str(dvc), "repro"], Path(name))))
    rows.append(("forge --help", *_time([str(FORGE), "--help"], ROOT)))
    text = _table(rows, len(steps), _look_ups(release))
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _environment() -> dict[str, str]:
    passphrase = ROOT / ".forge" / "demo" / "passphrase"
    old = ROOT / ".forge" / "keys"  # of a demo of an earlier version
    keys = old if (old / "keys.json").is_file() else passphrase.parent / "keys"
    given = {"FORGE_PASSPHRASE_FILE": str(passphrase), "FORGE_KEYS": str(keys)}
    return os.environ | given | {"DVC_NO_ANALYTICS": "1"}


def _steps(release: list[str]) -> list[dict[str, Any]]:
    command = [*release, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, check=True)
    steps: list[dict[str, Any]] = json.loads(done.stdout)
    busy = [step["step"] for step in steps if step["status"] not in {"hit", "always"}]
    if busy:
        sys.exit(f"there is still something to do ({busy}); run `make demo` first")
    return steps


def _time(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Median and worst wall seconds, median CPU seconds."""
    walls, cpus = [], []
    for _ in range(RUNS):
        before = os.times()
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, check=True)
        walls.append(time.perf_counter() - started)
        after = os.times()
        cpus.append(
            after.children_user + after.children_system
            - before.children_user - before.children_system
        )  # fmt: skip
    return statistics.median(walls), max(walls), statistics.median(cpus)


def _make_dvc_project(folder: Path, steps: list[dict[str, Any]], dvc: Path) -> None:
    """The same graph: a stage a step, depending on the same stages, writing as many bytes."""
    stages = {}
    makers = {
        output["digest"]: f"{step['step'].replace('@', '-')}-{name}"
        for step in steps
        for name, output in step["outputs"].items()
    }
    for step in steps:
        stage = step["step"].replace("@", "-")
        outputs = {f"{stage}-{name}": out["size"] for name, out in step["outputs"].items()}
        outputs = outputs or {f"{stage}-done": 1}
        commands = [f"head -c {size} /dev/urandom > {name}" for name, size in outputs.items()]
        stages[stage] = {
            "cmd": " && ".join(commands),
            "deps": sorted({makers[digest] for digest in step["inputs"].values()}),
            "outs": list(outputs),
        }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    for command in (["init", "--no-scm"], ["repro"]):
        subprocess.run(
            [dvc, *command], cwd=folder, env=_environment(), capture_output=True, check=True
        )


def _look_ups(release: list[str]) -> str:
    """What the store was asked in one run, counted by strace on the embedded store's files."""
    with tempfile.NamedTemporaryFile(suffix=".strace") as trace:
        command = ["strace", "-f", "-qq", "-e", "trace=openat,stat,newfstatat", "-o", trace.name]
        subprocess.run(
            [*command, *release], cwd=ROOT, env=_environment(), capture_output=True,
            check=True,
        )  # fmt: skip
        calls = Path(trace.name).read_text(errors="replace").splitlines()
    asked: dict[str, int] = {}
    for kind in ("actions", "trees", "files", "packs", "tuf", "leases"):
        asked[kind] = sum(f"/artifacts/{kind}/" in call for call in calls)
    return ", ".join(f"{kind} {count}" for kind, count in asked.items())


def _table(rows: list[tuple[str, float, float, float]], steps: int, look_ups: str) -> str:
    lines = [
        "# A release with nothing to do",
        "",
        f"{describe()}. {steps} steps, {RUNS} runs each.",
        "",
        "| what | median wall s | worst wall s | median CPU s |",
        "|---|---:|---:|---:|",
        *(
            f"| `{name}` | {wall:.2f} | {worst:.2f} | {cpu:.2f} |"
            for name, wall, worst, cpu in rows
        ),
        "",
        f"System calls on the embedded store's files in one run: {look_ups}.",
        "",
        "Command: `.venv/bin/python benchmarks/nothing_to_do.py`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
