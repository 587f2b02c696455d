"""Publish and pull of a 1 GiB tree through a real S3 server, beside s5cmd and boto3's own manager.

    PYTHONPATH=. .venv/bin/python benchmarks/s3.py [--write docs/results/s3.md]

The server is SeaweedFS (`weed`) on this machine. Each tool runs in a process of its own, so that
its peak memory is its own; s5cmd comes from benchmarks/requirements.lock. The tree is random bytes
in files of 128 MiB: nothing in it can be stored once for twice.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import describe, measure
from peers import program

from tests.support.seaweed import Seaweed, run

ROOT = Path(__file__).resolve().parent.parent
FILE_BYTES = 128 << 20
FILES = 8
PUT = """
import os, sys
from pathlib import Path
from forge.store import open_store
store = open_store(sys.argv[1], environment=os.environ, cache=Path(sys.argv[3]))
Path(sys.argv[4]).write_text(store.put_tree(Path(sys.argv[2])).digest)
"""
GET = """
import os, sys
from pathlib import Path
from forge.store import open_store
store = open_store(sys.argv[1], environment=os.environ, cache=Path(sys.argv[3]))
seeds = [Path(one) for one in sys.argv[5:]]
moved = store.unpack(Path(sys.argv[4]).read_text(), Path(sys.argv[2]), seeds=seeds)
print(f"fetched {moved.fetched_bytes} reused {moved.reused_bytes}", file=sys.stderr)
"""
BOTO = """
import os, sys
from pathlib import Path
import boto3
client = boto3.client("s3", endpoint_url=os.environ["FORGE_S3_ENDPOINT"])
bucket, folder = sys.argv[2], Path(sys.argv[3])
for number in range(int(sys.argv[4])):
    name = f"part-{number}"
    if sys.argv[1] == "up":
        client.upload_file(str(folder / name), bucket, name)
    else:
        client.download_file(bucket, name, str(folder / name))
"""


@dataclass(frozen=True)
class Row:
    """One tool in one direction."""

    tool: str
    direction: str
    seconds: float
    peak_mib: float


def main() -> int:
    """Measure and print one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = _tree(folder / "tree")
        with contextlib.contextmanager(run)(folder / "weed") as server:
            environment = os.environ | server.environment | {"AWS_REGION": "us-east-1"}
            rows, unchanged = _measure(folder, tree, server, environment)
    text = _page(rows, unchanged)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _tree(folder: Path) -> Path:
    folder.mkdir()
    generator = random.Random(4)  # noqa: S311  no key
    for number in range(FILES):
        (folder / f"part-{number}").write_bytes(generator.randbytes(FILE_BYTES))
    return folder


def _measure(
    folder: Path, tree: Path, server: Seaweed, environment: Mapping[str, str]
) -> tuple[list[Row], str]:
    s5cmd = program("s5cmd")
    store, buckets = f"s3://{server.bucket()}/forge", [server.bucket(), server.bucket()]
    index, digest = str(folder / "index"), str(folder / "digest")
    pulled = [folder / name for name in ("forge", "s5cmd", "boto3", "unchanged")]
    for path in pulled[1:3]:
        path.mkdir()
    s5 = [str(s5cmd), "--endpoint-url", server.endpoint, "cp"]
    python = [sys.executable, "-c"]
    commands = {
        ("Forge", "publish"): [*python, PUT, store, str(tree), index, digest],
        ("s5cmd", "publish"): [*s5, f"{tree}/*", f"s3://{buckets[0]}/"],
        ("boto3", "publish"): [*python, BOTO, "up", buckets[1], str(tree), str(FILES)],
        ("Forge", "pull"): [*python, GET, store, str(pulled[0]), index, digest],
        ("s5cmd", "pull"): [*s5, f"s3://{buckets[0]}/*", f"{pulled[1]}/"],
        ("boto3", "pull"): [*python, BOTO, "down", buckets[1], str(pulled[2]), str(FILES)],
    }
    rows = [Row(*what, *measure(command, environment)) for what, command in commands.items()]
    again = [*python, GET, store, str(pulled[3]), index, digest, str(pulled[0])]
    done = subprocess.run(again, env=environment, check=True, capture_output=True, text=True)
    return rows, done.stderr.strip().splitlines()[-1]


def _page(rows: list[Row], unchanged: str) -> str:
    size = FILES * FILE_BYTES / 1e6
    lines = [
        "# 1 GiB through S3",
        "",
        f"{describe()}. SeaweedFS on the same machine, one run, process start included.",
        "",
        "| tool | direction | seconds | MB/s | peak RSS MiB |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {row.tool} | {row.direction} | {row.seconds:.1f} | {size / row.seconds:.0f} "
            f"| {row.peak_mib:.0f} |"
            for row in rows
        ),
        "",
        f"Pull of the same tree again beside an unchanged copy: {unchanged} bytes of packs.",
        "",
        "Forge cuts, hashes and verifies every byte; the others copy files.",
        "",
        "Command: `PYTHONPATH=. .venv/bin/python benchmarks/s3.py`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
