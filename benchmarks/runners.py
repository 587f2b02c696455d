"""Each runner on one chain of equal steps, beside a plain Dagger script and buildah's layers.

    .venv/bin/python benchmarks/runners.py [--steps 6] [--write docs/results/runners.md]

Every step copies its input, 1 MB, and adds a line. Then this repository's own release for the
development profile: cold (the engine's cache is emptied, also for others who use that engine), with
the environments there, and with nothing to do. Needs a Dagger engine (docs/reference/runners.md), a
base image for it (FORGE_DAGGER_BASE) and buildah.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machine import describe

from forge.runners.dagger.settings import RUNNER_HOST, load
from forge.runners.local import host_platform

ROOT = Path(__file__).resolve().parent.parent
FORGE = Path(sys.executable).parent / "forge"
RUNS = 3
SIZE = 1_000_000
_WHOLE = "Whole processes, Python's start included; images and environments existed already."
STEP = "cat {before} > {out}; echo {index} >> {out}"

PIPELINE = '''
"""A chain of equal steps."""
from forge.plan import Plan
from forge.steps import Step


def chain(*, steps: int = 8, salt: str = "") -> Plan:
    """N steps, each on the output of the one before."""
    first = (f"echo {salt} > ${{outputs.out}}/data; "
             f"head -c 1000000 /dev/zero >> ${{outputs.out}}/data")
    step = Step(id="step0", argv=("sh", "-ceu", first), outputs=("out",))
    for index in range(1, steps):
        script = (f"cat ${{inputs.a}}/data > ${{outputs.out}}/data; "
                  f"echo {index} >> ${{outputs.out}}/data")
        step = Step(id=f"step{index}", argv=("sh", "-ceu", script), inputs={"a": step["out"]},
                    outputs=("out",))
    return Plan.of("chain", [], [step])
'''

SCRIPT = """
import sys, anyio, dagger
from dagger import dag

async def main(base, steps, salt, out):
    async with dagger.connection():
        step = dag.container().from_(base).with_directory("/out", dag.directory()).with_exec(
            ["sh", "-ceu", f"echo {salt} > /out/data; head -c 1000000 /dev/zero >> /out/data"])
        for index in range(1, steps):
            before = step.directory("/out")
            step = (dag.container().from_(base).with_mounted_directory("/in", before)
                    .with_directory("/out", dag.directory())
                    .with_exec(["sh", "-ceu",
                                f"cat /in/data > /out/data; echo {index} >> /out/data"]))
        await step.directory("/out").export(out)

anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
"""


@dataclass(frozen=True)
class Row:
    """What one tool took, in seconds."""

    name: str
    built: list[float]
    nothing: list[float]


def main() -> int:
    """Measure all and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--write", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    base = os.environ.get("FORGE_DAGGER_BASE", "").format(python="3.11")
    if not base:
        sys.exit("set FORGE_DAGGER_BASE, the image that Dagger and buildah start from")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        text = _table(_measure(Path(name), arguments.steps, base), arguments.steps)
        print(text, flush=True)
        text += _release_table(_release(Path(name) / "release")) + _NOTES
    text += f"\nLoad average before and after: {before:.1f}, {os.getloadavg()[0]:.1f}.\n"
    text += "\nCommand: `.venv/bin/python benchmarks/runners.py`\n"
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _measure(work: Path, steps: int, base: str) -> list[Row]:
    project = _project(work)
    script = work / "plain.py"
    script.write_text(SCRIPT, encoding="utf-8")

    def forge(runner: str, salt: str) -> list[str]:
        store = str(work / f"store-{runner}")
        return [str(FORGE), "run", "chain", "--project", str(project), "--store", store,
                "--runner", runner, "--jobs", "1",
                "--steps", str(steps), "--salt", salt]  # fmt: skip

    def plain(salt: str) -> list[str]:
        return [sys.executable, str(script), base, str(steps), salt, str(work / "out")]

    def buildah(salt: str) -> list[str]:
        _containerfile(work / "layers" / "Containerfile", steps, base, salt)
        return ["buildah", "build", "--layers", "--quiet", "--isolation", "chroot",
                "--tls-verify=false", "--tag", "forge-benchmark", str(work / "layers")]  # fmt: skip

    return [
        _row("Forge, local runner", lambda salt: forge("local", salt)),
        _row("Forge, dagger runner", lambda salt: forge("dagger", salt)),
        _row("plain Dagger script", plain),
        _row("`buildah build --layers`", buildah),
    ]


def _project(work: Path) -> Path:
    project = work / "project"
    for folder in ("pipelines", "profiles"):
        (project / folder).mkdir(parents=True)
    (project / "pipelines" / "chain.py").write_text(PIPELINE, encoding="utf-8")
    return project


def _containerfile(path: Path, steps: int, base: str, salt: str) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [f"FROM {base}", f"RUN echo {salt} > /data0; head -c {SIZE} /dev/zero >> /data0"]
    for index in range(1, steps):
        command = STEP.format(before=f"/data{index - 1}", out=f"/data{index}", index=index)
        lines.append(f"RUN {command}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(name: str, command: Callable[[str], list[str]]) -> Row:
    """Build under a new salt each time, then run again with nothing to do."""
    _time(command("warm-up"))  # images, environments: not what is measured here
    built, nothing = [], []
    for run in range(RUNS):
        argv = command(f"run{run}-{time.time_ns()}")
        built.append(_time(argv))
        nothing.append(_time(argv))
    return Row(name, built, nothing)


_NOTES = """
"Empty": no result in the store and no tool environment; for Dagger the engine's cache was
pruned. Downloaded packages may still have been in uv's cache. "Environments exist": a new, empty
store. Both runners publish in every row, because publishing is never taken from the store.
"""

PRUNE = """
import anyio, dagger
from dagger import dag

async def main():
    async with dagger.connection():
        await dag.engine().local_cache().prune()

anyio.run(main)
"""


def _release(project: Path) -> list[tuple[str, float, float, float]]:
    """Seconds of a release by each runner: cold, environments there, nothing to do."""
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    os.environ["FORGE_KEYS"] = str(project.parent / "keys")
    _time([str(FORGE), "keys", "init"], project)
    rows = []
    for runner in ("local", "dagger"):
        if runner == "dagger":
            _time([sys.executable, "-c", PRUNE])
        cold = _time(_release_command(project, runner, f"{runner}-cold"))
        warm = _time(_release_command(project, runner, f"{runner}-warm"))
        again = _release_command(project, runner, f"{runner}-warm")
        nothing = statistics.median(_time(again) for _ in range(RUNS))
        rows.append((f"Forge, {runner} runner", cold, warm, nothing))
    return rows


def _release_command(project: Path, runner: str, store: str) -> list[str]:
    release = ["run", "release", "--profile", "development", "--version", "1.0.0"]
    where = ["--project", str(project), "--store", str(project / store), "--runner", runner]
    return [str(FORGE), *release, *where]


def _release_table(rows: list[tuple[str, float, float, float]]) -> str:
    lines = [
        "",
        f"This repository's release for `development`, once each (nothing to do: {RUNS} times):",
        "",
        "| what | empty, s | environments exist, s | nothing to do, s |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {cold:.0f} | {warm:.0f} | {done:.1f} |" for name, cold, warm, done in rows),
    ]
    return "\n".join(lines) + "\n"


def _time(argv: list[str], folder: Path = ROOT) -> float:
    started = time.perf_counter()
    environment = {"FORGE_PASSPHRASE": "words of the benchmark"} | os.environ
    _, engine = load(ROOT, os.environ, host=host_platform()).engine(None, host_platform())
    environment |= {RUNNER_HOST: engine} if engine else {}  # for the plain script
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    if done.returncode:
        sys.exit(f"{argv}: {done.stderr}")
    return time.perf_counter() - started


def _table(rows: list[Row], steps: int) -> str:
    lines = [
        "# Runners",
        "",
        f"{describe()}.",
        f"A chain of {steps} equal steps, one at a time, {RUNS} runs, median (worst). {_WHOLE}",
        "",
        "| what | all steps to do, s | one step of it, s | nothing to do, s |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        built, nothing = statistics.median(row.built), statistics.median(row.nothing)
        lines.append(
            f"| {row.name} | {built:.2f} ({max(row.built):.2f}) | {(built - nothing) / steps:.2f} "
            f"| {nothing:.2f} ({max(row.nothing):.2f}) |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
