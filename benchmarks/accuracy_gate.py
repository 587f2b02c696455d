"""Which damages of an engine its receipt and the comparison of its weights see.

    .venv/bin/python benchmarks/accuracy_gate.py --python VENV/bin/python --engine DIR \
        --checkpoint DIR --reference DIR [--without-receipt]

VENV: the environment `openvino`. The engine is damaged in one way at a time, from noise in
1 of 2048 of the weights to one value, and measured as the step `accuracy@PROFILE` does; the gate
has no last version, so the limits are those of a first one. The honest engine is the first row.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import describe

from forge.accuracy.gate import AccuracySettings, gate
from forge.accuracy.receipt import Receipt
from forge.accuracy.weights import WeightsComparison

TOOLS = Path(__file__).resolve().parents[1] / "forge" / "builders" / "tools"
MODEL = "openvino_model"
HEAD_ROWS = 64  # of SmolLM2
LIMITS = AccuracySettings.model_validate(
    {
        "accuracy": {
            "kl_mean": None,
            "same_top": None,
            "perplexity_ratio": None,
            "regression_pct": 50,
        }
    }
)
WEIGH = "import json, sys; from pathlib import Path; import openvino_weights as w; "
WEIGH += "print(json.dumps(w.compare(Path(sys.argv[1]), Path(sys.argv[2]))))"


@dataclass(frozen=True)
class Places:
    """Where constants are in the file of weights: `norms` float32, `matrices` 8 bits."""

    data: np.ndarray
    norms: list[tuple[int, int]]
    matrices: list[tuple[int, int, tuple[int, ...]]]

    def matrix(self, number: int) -> np.ndarray:
        """Return the codes of a matrix by row."""
        start, size, shape = self.matrices[number]
        return self.data[start : start + size].reshape(shape[0], -1)


def main() -> int:
    """Measure the honest engine and each damaged one, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--without-receipt", action="store_true", help="only compare weights")
    arguments = parser.parse_args()
    sys.stdout.write(f"{describe()}\n\n")
    sys.stdout.write("| damage | mean divergence | receipt | worst value, of allowed | weights |\n")
    sys.stdout.write("|---|---:|---|---:|---|\n")
    for name, damage in DAMAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            engine = Path(folder) / "engine"
            shutil.copytree(arguments.engine, engine)
            path = engine / f"{MODEL}.bin"
            places = _places(engine, np.fromfile(path, np.uint8))
            damage(places)
            places.data.tofile(path)
            sys.stdout.write(f"| {name} | {_row(arguments, engine, Path(folder))} |\n")
            sys.stdout.flush()
    return 0


def _row(arguments: argparse.Namespace, engine: Path, work: Path) -> str:
    weights = _weights(arguments, engine)
    found = "seen" if weights.problem_count else "not seen"
    worst = weights.worst.of_allowed
    values = "not a number" if worst is None else f"{worst:.3g}"
    divergence, verdict = "-", "-"
    if not arguments.without_receipt:
        receipt = _receipt(arguments, engine, work)
        divergence = f"{receipt.worst().kl_mean or float('nan'):.4f}"
        verdict = "not seen" if gate(receipt, LIMITS).passed else "seen"
    return f"{divergence} | {verdict} | {values} | {found}"


def _weights(arguments: argparse.Namespace, engine: Path) -> WeightsComparison:
    argv = [str(arguments.python), "-c", WEIGH, str(engine), str(arguments.checkpoint)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=TOOLS)
    return WeightsComparison.model_validate_json(done.stdout)


def _receipt(arguments: argparse.Namespace, engine: Path, work: Path) -> Receipt:
    settings = work / "settings.json"
    settings.write_text(json.dumps({"engine": {"max_batch_size": 1, "max_seq_len": 2048}}))
    argv = [arguments.python, TOOLS / "openvino_receipt.py", "--engine", engine]
    argv += ["--reference", arguments.reference, "--checkpoint", arguments.checkpoint]
    argv += ["--settings", settings, "--output", work / "receipt"]
    subprocess.run([str(one) for one in argv], check=True, capture_output=True)
    return Receipt.model_validate_json((work / "receipt" / "receipt.json").read_bytes())


def _places(engine: Path, data: np.ndarray) -> Places:
    norms, matrices = [], []
    for layer in ET.parse(engine / f"{MODEL}.xml").getroot().iterfind("layers/layer"):  # noqa: S314
        constant = layer.find("data")
        if layer.get("type") != "Const" or constant is None:
            continue
        start, size = int(constant.attrib["offset"]), int(constant.attrib["size"])
        shape = tuple(int(one) for one in constant.attrib["shape"].split(",") if one.strip())
        kind = constant.attrib["element_type"]
        if kind == "u8" and shape[-1] > 1:
            matrices.append((start, size, shape))
        elif kind == "f32" and shape[:-1] == (1, 1) and shape[-1] > 1:
            norms.append((start, size))
    return Places(data, norms, matrices)


def nothing(_places: Places) -> None:
    """Leave the engine as it is."""


def noise(share: int) -> Callable[[Places], None]:
    """Return what writes random bytes over a run of 1/share of the file, from 90 %."""

    def damage(places: Places) -> None:
        start, count = int(len(places.data) * 0.9), len(places.data) // share
        places.data[start : start + count] = np.random.default_rng(1).integers(0, 256, count)

    return damage


def spread(places: Places) -> None:
    """Write random codes over 1 of 2048 of the weights, all over the matrices but the embedding."""
    generator = np.random.default_rng(1)
    for number in range(1, len(places.matrices)):
        codes = places.matrix(number).reshape(-1)
        chosen = generator.choice(len(codes), len(codes) // 2048, replace=False)
        codes[chosen] = generator.integers(0, 256, len(chosen))


def norm(places: Places) -> None:
    """Scale one norm by 1.01."""
    start, size = places.norms[20]
    values = places.data[start : start + size].view(np.float32)
    values *= np.float32(1.01)


def heads(places: Places) -> None:
    """Exchange two heads of one layer's query weights."""
    rows = places.matrix(1 + 7 * 10)
    rows[: 2 * HEAD_ROWS] = np.roll(rows[: 2 * HEAD_ROWS], HEAD_ROWS, 0)


def row(places: Places) -> None:
    """Set one row of one matrix to zero."""
    places.matrix(1 + 7 * 15 + 4)[100] = 128


def bits(places: Places) -> None:
    """Flip the lowest bit of 1 of 2048 of one matrix's codes."""
    codes = places.matrix(1 + 7 * 5).reshape(-1)
    codes[::2048] ^= 1


def single(places: Places) -> None:
    """Change one code by 8 of 255."""
    places.matrix(1 + 7 * 12)[3, 5] ^= 8


def layers(places: Places) -> None:
    """Exchange the value weights of two neighbouring layers, but not their scales."""
    first, second = places.matrix(1 + 7 * 20 + 2), places.matrix(1 + 7 * 21 + 2)
    kept = first.copy()
    first[:] = second
    second[:] = kept


DAMAGES: dict[str, Callable[[Places], None]] = {
    "none": nothing,
    "noise in 1/2048 of the bytes, from 90 %": noise(2048),
    "noise in 1/2048 of the codes, everywhere": spread,
    "noise in 1/65536 of the bytes, from 90 %": noise(65536),
    "one norm x 1.01": norm,
    "two heads exchanged in one layer": heads,
    "one row of one matrix zero": row,
    "lowest bit of 1/2048 of one matrix": bits,
    "one code changed by 8": single,
    "codes of two layers' values exchanged": layers,
}

if __name__ == "__main__":
    sys.exit(main())
