"""`forge affected` over 1,000 SBOMs of the real serving environment, first time and later.

    .venv/bin/python benchmarks/affected.py [--sboms 1000] [--write docs/results/affected.md]

A number is a whole process, Python's start and the verification of the signatures included. The
SBOMs differ in the version of one package and in the engine's file; the store is a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from machine import describe

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from forge.canonical import digest  # noqa: E402
from forge.release.attest.sbom import write_sbom  # noqa: E402
from forge.release.manifest import PlannedManifest  # noqa: E402
from forge.serving.repository.spec import write_spec  # noqa: E402
from tests.support.release_world import World, manifest  # noqa: E402
from tests.support.spec import a_spec  # noqa: E402

FORGE = Path(sys.executable).parent / "forge"
LOCK = ROOT / "dockerfiles" / "triton-openvino" / "requirements.lock"
PROFILES = 50
RUNS = 7
QUERIES = ("pkg:pypi/numpy<9", "openvino", "pkg:pypi/does-not-exist<1", "sha256:00000000")


def main() -> int:
    """Publish the bundles, measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sboms", type=int, default=1000)
    parser.add_argument("--write", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size, packages = _publish(World(folder, now=datetime.now(UTC)), arguments.sboms)
        rows = [("first time", QUERIES[0], *_time(folder, QUERIES[0], 1))]
        rows += [("later", query, *_time(folder, query, RUNS)) for query in QUERIES]
        index = sum(one.stat().st_size for one in (folder / "cache").glob("components-*"))
    text = _table(rows, arguments.sboms, size, packages, index)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _publish(world: World, count: int) -> tuple[int, int]:
    """Publish bundles with that many SBOMs; the size of one and its number of packages."""
    sbom = _sbom(world.folder)
    packages = len(json.loads(sbom)["components"])
    tree = world.store.put_tree(world.folder / "tree")
    for version in range(count // PROFILES):
        planned = []
        for profile in range(PROFILES):
            text = sbom.replace("3.99.0", f"3.{version}.{profile}").replace(
                "0" * 64, digest([version, profile])
            )
            proofs = world.folder / "proofs"
            proofs.mkdir(exist_ok=True)
            (proofs / "sbom.cdx.json").write_text(text, encoding="utf-8")
            made = manifest(f"1.{version}.0", f"profile-{profile}").model_copy(
                update={"tree": tree, "proofs": world.store.put_tree(proofs)}
            )
            planned.append(PlannedManifest(made, digest([made.identity()])))
        world.publish_planned(*planned)
    return len(sbom), packages


def _sbom(folder: Path) -> str:
    """Return the SBOM of a repository with the real lock, one more package and one engine file."""
    tree = folder / "tree"
    (tree / "models/llm/1/engine").mkdir(parents=True)
    (tree / "models/llm/1/engine/model.bin").write_bytes(b"weights")
    (tree / "runtime").mkdir()
    lock = LOCK.read_text(encoding="utf-8") + f"\nvaried==3.99.0 --hash=sha256:{'0' * 64}\n"
    (tree / "runtime/requirements.lock").write_text(lock, encoding="utf-8")
    write_spec(tree, a_spec())
    write_sbom(tree, folder)
    return (folder / "sbom.cdx.json").read_text(encoding="utf-8")


def _time(folder: Path, query: str, runs: int) -> tuple[int, float, float, float]:
    """Return how many bundles were found; median and worst wall and median processor seconds."""
    environment = os.environ | {"FORGE_CACHE": str(folder / "cache")}
    command = [str(FORGE), "affected", query, "--store", str(folder / "store"), "--json"]
    seconds, processor, found = [], [], 0
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, cwd=folder
        )
        seconds.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        found = len(json.loads(done.stdout)["found"])
    return found, statistics.median(seconds), max(seconds), statistics.median(processor)


def _table(
    rows: list[tuple[str, str, int, float, float, float]],
    count: int,
    size: int,
    packages: int,
    index: int,
) -> str:
    measured = (
        f"{describe()}. {count} SBOMs of {packages} packages, {size / 1000:.0f} kB each; "
        f"{RUNS} runs. The index of the components takes {index / 1e6:.1f} MB."
    )
    lines = [
        "# Which bundles have a component",
        "",
        measured,
        "",
        "| what | question | found | median wall s | worst wall s | median CPU s |",
        "|---|---|---:|---:|---:|---:|",
        *(f"| {what} | `{query}` | {found} | {median:.2f} | {worst:.2f} | {cpu:.2f} |"
          for what, query, found, median, worst, cpu in rows),
        "",
        "Command: `.venv/bin/python benchmarks/affected.py`",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
