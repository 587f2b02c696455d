"""Engines of TensorRT for RTX: what compiling takes, and what a second one adds to the store.

    forge run release --profile rtx-pro-4000-aot --only engine@rtx-pro-4000-aot
    PYTHONPATH=. .venv/bin/python benchmarks/engines.py [--write docs/results/engines.md]

The ONNX is the one that run made. Three engines are compiled from it: for sm_120, for sm_120
again, and for sm_89; the second and the third are put into a store that holds the first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from chunking import blocks, put
from machine import describe, measure

from forge import environments
from forge.store import open_store

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "forge" / "builders" / "tools" / "tensorrt_rtx_compile.py"
LOCK = ROOT / "dockerfiles" / "tensorrt-rtx" / "requirements.lock"
ENGINE = {"precision": "fp16", "max_batch_size": 1, "max_input_len": 2048, "max_seq_len": 4096}


@dataclass(frozen=True)
class Engine:
    """One compiled engine and what it took."""

    target: str
    plan: Path
    seconds: float
    peak_mib: float


def main() -> int:
    """Measure and print one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page there")
    arguments = parser.parse_args()
    onnx = next((ROOT / ".forge" / "trees").glob("*/model.onnx"), None)
    if onnx is None:
        sys.exit("there is no ONNX; run the first command of this script's docstring")
    load, _, _ = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        targets = ("12.0", "12.0", "8.9")
        engines = [
            _compile(onnx.parent, target, Path(name) / str(index))
            for index, target in enumerate(targets)
        ]
        first, again, other = engines
        rows = [
            ("the same SKU again (sm_120)", *_added(first.plan, again.plan, Path(name) / "same")),
            ("another SKU (sm_89)", *_added(first.plan, other.plan, Path(name) / "other")),
        ]
    text = _page(onnx.stat().st_size, load, engines, rows)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _compile(onnx: Path, target: str, folder: Path) -> Engine:
    cache = ROOT / ".forge" / "environments"
    python = environments.ensure("tensorrt-rtx", LOCK, python="3.11", cache=cache) / "bin/python"
    folder.mkdir()
    settings = folder / "settings.json"
    values = {"engine": ENGINE, "hardware": {"compute_capability": target}}
    settings.write_text(json.dumps(values))
    command = [python, TOOL, "--checkpoint", onnx, "--settings", settings]
    words = [str(word) for word in [*command, "--output", folder / "engine"]]
    seconds, peak = measure(words, os.environ)
    return Engine(target, folder / "engine" / "model.plan", seconds, peak)


def _added(first: Path, second: Path, folder: Path) -> tuple[int, int, int, bool]:
    """Bytes of the second, newly stored by Forge and by fixed blocks, and whether it is equal."""
    before, after = first.read_bytes(), second.read_bytes()
    folder.mkdir()
    store = open_store(str(folder / "store"), cache=folder / "cache")
    put(store, folder / "1", before)
    new = put(store, folder / "2", after)
    fixed = sum(map(len, set(blocks(after)) - set(blocks(before))))
    return len(after), new, fixed, before == after


def _page(
    onnx: int, load: float, engines: list[Engine], rows: list[tuple[str, int, int, int, bool]]
) -> str:
    compiled = [
        f"| sm_{engine.target.replace('.', '')} | {engine.seconds:.1f} | {engine.peak_mib:.0f} |"
        for engine in engines
    ]
    added = [
        f"| {name} | {size / 1e6:.1f} | {'yes' if equal else 'no'} "
        f"| {new / 1e6:.2f} ({100 * new / size:.2f} %) "
        f"| {fixed / 1e6:.2f} ({100 * fixed / size:.1f} %) |"
        for name, size, new, fixed, equal in rows
    ]
    lines = [
        "# Engines of TensorRT for RTX",
        "",
        f"{describe()}, no GPU. SmolLM2-135M-Instruct, fp16, ONNX of {onnx / 1e6:.0f} MB.",
        f"Load average at the start: {load:.1f}; the seconds depend on it, the bytes do not.",
        "",
        "| compiled for | seconds | peak RSS MiB |",
        "|---|---:|---:|",
        *compiled,
        "",
        "Bytes newly stored when a second engine follows one for sm_120. Stored as a whole file it",
        "adds all of its size.",
        "",
        "| second engine | file MB | same bytes | Forge MB | fixed 1 MiB blocks MB |",
        "|---|---:|---|---:|---:|",
        *added,
        "",
        "Command: `PYTHONPATH=. .venv/bin/python benchmarks/engines.py`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
