"""Export tiny models as the step does, execute them, compare. Runs in the environment `optimum`.

    python openvino_families.py CHECKPOINTS OUTPUT PRECISION,… NAME…

    CHECKPOINTS/NAME, NAME.npz      of tiny_models.py: transformers in fp32
    OUTPUT/NAME/PRECISION           the engine
    OUTPUT/NAME.json                PRECISION → Result

OpenVINO computes in float32 as well, so that a difference is the export's or the weights', on
every processor. One process for many models: to import torch and OpenVINO takes 10 s.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

TOOLS = Path(__file__).resolve().parents[2] / "forge" / "builders" / "tools"
sys.path[:0] = [str(TOOLS)]
STEP = 53  # of tiny_models.py
ONE_BY_ONE = 250  # from this token of 300 on


class Result(TypedDict, total=False):
    """What came of one precision.

    `code` and `said` are the step's; then the correlation of the logits at each compared position,
    by how they were computed, and what the comparison of the weights found.
    """

    code: int
    said: str
    correlations: dict[str, list[float]]
    weights: dict[str, Any]


def main(argv: list[str]) -> int:
    """Export, execute and compare."""
    checkpoints, output, precisions = Path(argv[0]), Path(argv[1]), argv[2].split(",")
    for name in argv[3:]:
        reference, engines = checkpoints / f"{name}.npz", output / name
        found = {
            one: measured(checkpoints / name, reference, engines / one, one) for one in precisions
        }
        (output / f"{name}.json").write_text(json.dumps(found))
    return 0


def measured(checkpoint: Path, reference: Path, engine: Path, precision: str) -> Result:
    """Measure one model; a traceback is exit code 1, so that the others are measured as well."""
    try:
        return measure(checkpoint, reference, engine, precision)
    except BaseException:  # noqa: BLE001 - of any library
        return {"code": 1, "said": traceback.format_exc()}


def measure(checkpoint: Path, reference: Path, engine: Path, precision: str) -> Result:
    """Run the step on a checkpoint, and compare what it wrote."""
    import openvino_weights

    code, said = export(checkpoint, engine, precision)
    if code:
        return {"code": code, "said": said}
    known = np.load(reference)
    return {
        "code": code,
        "said": said,
        "correlations": Network(engine).correlations(known),
        "weights": openvino_weights.compare(engine, checkpoint),
    }


def export(checkpoint: Path, engine: Path, precision: str) -> tuple[int, str]:
    """Run the step's program; return its exit code and what it said."""
    import openvino_export

    engine.mkdir(parents=True)
    settings = engine.with_suffix(".json")
    settings.write_text(json.dumps({"engine": {"precision": precision}}))
    argv = ["--checkpoint", str(checkpoint), "--settings", str(settings), "--output", str(engine)]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = openvino_export.main(argv)
    return code, said.getvalue()


class Network:
    """An engine on the CPU, in float32, with its own KV cache."""

    def __init__(self, engine: Path) -> None:
        import openvino

        core = openvino.Core()
        exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        compiled = core.compile_model(core.read_model(engine / "openvino_model.xml"), "CPU", exact)
        self.inputs = {name for one in compiled.inputs for name in one.get_names()}
        self.request = compiled.create_infer_request()

    def correlations(self, known: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
        """Compare alone at each length, in a padded batch, and token by token."""
        rows = {int(name[7:]): known[name] for name in known if name.startswith("tokens_")}
        found = {}
        for length, row in rows.items():
            logits = self.score([row])[0][positions(length)]
            found[f"alone {length}"] = correlations(logits, known[f"logits_{length}"])
        short = sorted(rows)[:2]
        for length, logits in zip(short, self.score([rows[one] for one in short]), strict=True):
            found[f"batch {length}"] = correlations(
                logits[positions(length)], known[f"logits_{length}"]
            )
        length = short[1]
        later = [at for at in positions(length) if at >= ONE_BY_ONE]
        wanted = known[f"logits_{length}"][-len(later) :]
        logits = self.decode(rows[length])
        found["one by one"] = correlations(logits[[at - ONE_BY_ONE for at in later]], wanted)
        return found

    def score(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        """Return the logits of each row, all in one batch, filled up on the right."""
        self.request.reset_state()
        width = max(map(len, rows))
        tokens, mask = np.zeros((2, len(rows), width), np.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)], mask[index, : len(row)] = row, 1
        logits = self._infer(tokens, mask, np.maximum(mask.cumsum(-1) - 1, 0))
        return [logits[index, : len(row)] for index, row in enumerate(rows)]

    def decode(self, row: np.ndarray) -> np.ndarray:
        """Return the logits from ONE_BY_ONE on, each token in a call of its own."""
        self.request.reset_state()
        found = []
        for start, end in [(0, ONE_BY_ONE), *((at, at + 1) for at in range(ONE_BY_ONE, len(row)))]:
            tokens = np.asarray(row[None, start:end], np.int64)
            mask = np.ones((1, end), np.int64)
            found.append(self._infer(tokens, mask, np.arange(start, end)[None])[0, -1])
        return np.stack(found[1:])

    def _infer(self, tokens: np.ndarray, mask: np.ndarray, place: np.ndarray) -> np.ndarray:
        values = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": place,
            "beam_idx": np.arange(len(tokens), dtype=np.int32),
        }
        given = {name: value for name, value in values.items() if name in self.inputs}
        return np.array(self.request.infer(given)["logits"], np.float32)


def positions(length: int) -> list[int]:
    """Return the positions that the reference has."""
    return [*range(0, length - 1, STEP), length - 1]


def correlations(found: np.ndarray, known: np.ndarray) -> list[float]:
    """Return the correlation of each position's logits."""
    pairs = zip(found, known, strict=True)
    return [float(np.corrcoef(one, other)[0, 1]) for one, other in pairs]


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    code = main(sys.argv[1:])
    os._exit(code)  # OpenVINO's threads may still run
