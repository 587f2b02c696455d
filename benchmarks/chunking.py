"""Chunk + hash on one core, and bytes newly stored for a changed file, beside simpler ways.

    make demo
    taskset -c 0 .venv/bin/python benchmarks/chunking.py [--write docs/results/chunking.md]

The engine is the OpenVINO IR that the demo compiled. "Second build" shifts it as a rebuild with
another header does: 100 bytes more at the front and 64 scattered words changed. "Fine-tune"
changes 1 % of the bytes, in runs of 64 KiB.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from machine import describe

from forge.store import Store, open_store
from forge.store.formats.chunker import FileCutter

ROOT = Path(__file__).resolve().parent.parent
SPEED_BYTES = 512 << 20
BLOCK = 1 << 20
RUNS = 5


def main() -> int:
    """Measure and print one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        speeds = _speeds(Path(name))
        stored = _stored(Path(name))
    text = _page(speeds, stored)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _speeds(folder: Path) -> list[tuple[str, float]]:
    path = folder / "random"
    path.write_bytes(b"".join(os.urandom(BLOCK) for _ in range(SPEED_BYTES // BLOCK)))

    def chunks() -> None:
        """What `put` does to every byte: cut, digest of each chunk, digest of the file."""
        for _ in FileCutter(path):
            pass

    def fixed() -> None:
        whole = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                hashlib.sha256(block).digest()
                whole.update(block)

    return [
        ("Forge: FastCDC, digest of each chunk and of the file", _rate(chunks)),
        ("fixed 1 MiB blocks, digest of each block and of the file", _rate(fixed)),
    ]


def _rate(work: Callable[[], None]) -> float:
    """MB/s, median."""
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return SPEED_BYTES / 1e6 / statistics.median(seconds)


def _stored(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """(change, size, bytes newly stored by Forge, by fixed blocks, by whole files)."""
    engines = (ROOT / ".forge" / "trees").glob("*/openvino_model.bin")
    original = next(engines, None)
    if original is None:
        sys.exit("there is no compiled engine; run `make demo` first")
    data = original.read_bytes()
    rows = []
    for name, changed in (("second build", _second_build(data)), ("fine-tune", _fine_tune(data))):
        store = open_store(str(folder / name), cache=folder / f"{name}-cache")
        put(store, folder / f"{name}-1", data)
        new = put(store, folder / f"{name}-2", changed)
        fixed = sum(map(len, set(blocks(changed)) - set(blocks(data))))
        rows.append((name, len(changed), new, fixed, len(changed)))
    return rows


def put(store: Store, folder: Path, data: bytes) -> int:
    """Bytes newly stored for one file."""
    folder.mkdir()
    (folder / "engine.bin").write_bytes(data)
    return store.put(folder).new_bytes


def blocks(data: bytes) -> Iterator[bytes]:
    """Fixed blocks of 1 MiB."""
    return (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))


def _second_build(data: bytes) -> bytes:
    generator = random.Random(2)  # noqa: S311  no key
    changed = bytearray(generator.randbytes(100) + data)
    for _ in range(64):
        at = generator.randrange(len(changed) - 8)
        changed[at : at + 8] = generator.randbytes(8)
    return bytes(changed)


def _fine_tune(data: bytes) -> bytes:
    generator = random.Random(3)  # noqa: S311  no key
    changed = bytearray(data)
    run = 64 * 1024
    for _ in range(len(data) // 100 // run):
        at = generator.randrange(len(changed) - run)
        changed[at : at + run] = generator.randbytes(run)
    return bytes(changed)


def _page(speeds: list[tuple[str, float]], stored: list[tuple[str, int, int, int, int]]) -> str:
    cores = len(os.sched_getaffinity(0))
    rows = [
        f"| {name} | {size / 1e6:.1f} | {new / 1e6:.2f} ({100 * new / size:.1f} %) "
        f"| {blocks / 1e6:.2f} ({100 * blocks / size:.1f} %) | {whole / 1e6:.1f} |"
        for name, size, new, blocks, whole in stored
    ]
    lines = [
        "# Chunking",
        "",
        f"{describe()}. {SPEED_BYTES >> 20} MiB, {cores} core(s), median of {RUNS}.",
        "",
        "| what | MB/s |",
        "|---|---:|",
        *(f"| {name} | {rate:.0f} |" for name, rate in speeds),
        "",
        "Bytes newly stored when a changed file follows the original, the OpenVINO IR of SmolLM2.",
        "The script makes the changes (its docstring says how), not a compiler.",
        "",
        "| change | file MB | Forge MB | fixed 1 MiB blocks MB | whole file MB |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        "Command: `taskset -c 0 .venv/bin/python benchmarks/chunking.py`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
