"""Run the conversion scripts on many models in one process of their environment.

    python conversions.py huggingface|onnx|logits|onnx-logits|tokens PAIRS.json

PAIRS.json is a list of [source, target]. Prints one JSON object: source → result. For the scripts
that is [exit code, what it wrote to stderr]; for `logits` and `onnx-logits`, target is the .npz of
the reference, and the result the correlation of each compared position, by length; for `tokens`,
the ids of each probe text.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "forge" / "builders" / "tools")]
SUPPORT = Path(__file__).parent


def main(argv: list[str]) -> int:
    """Convert or compare."""
    kind, pairs = argv[0], json.loads(Path(argv[1]).read_text())
    work = {"huggingface": huggingface, "onnx": onnx, "logits": logits,
            "onnx-logits": onnx_logits, "tokens": tokens}[kind]  # fmt: skip
    found = {source: work(Path(source), Path(target)) for source, target in pairs}
    sys.stdout.write(json.dumps(found))
    return 0


def run(main_of_script: Any, argv: list[str]) -> tuple[int, str]:
    """Run a script's `main`; a traceback is exit code 1, as Python makes it."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            code = main_of_script(argv)
        except SystemExit as end:
            code = int(end.code or 0) if not isinstance(end.code, str) else 1
        except BaseException:  # noqa: BLE001 - whatever a script may end with
            return 1, said.getvalue() + traceback.format_exc()
    return code, said.getvalue()


def huggingface(source: Path, target: Path) -> tuple[int, str]:
    import to_huggingface

    target.mkdir(parents=True, exist_ok=True)
    argv = ["--checkpoint", str(source), "--output", str(target)]
    return run(to_huggingface.main, argv)


def onnx(source: Path, target: Path) -> tuple[int, str]:
    import to_onnx

    target.mkdir(parents=True, exist_ok=True)
    settings = target.parent / "settings.json"
    settings.write_text('{"precision": "fp16"}')
    argv = ["--checkpoint", str(source), "--settings", str(settings), "--output", str(target)]
    return run(to_onnx.main, argv)


def logits(folder: Path, reference: Path) -> dict[str, list[float]]:
    """Correlations of a Hugging Face folder, in fp32."""
    tiny = support("tiny_models")
    return correlations(tiny.reference(folder), np.load(reference))


def onnx_logits(folder: Path, reference: Path) -> dict[str, list[float]]:
    """Correlations of an ONNX graph, from an empty cache."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    known = np.load(reference)
    found = {}
    for name in known.files:
        if name.startswith("tokens_"):
            row = known[name][None].astype(np.int64)
            result = session.run(["logits"], feed(session, row))[0][0].astype(np.float32)
            found[name.replace("tokens", "logits")] = result[positions(row.shape[1])]
    return correlations(found, known)


def feed(session: Any, row: np.ndarray) -> dict[str, np.ndarray]:
    length = row.shape[1]
    given = {"input_ids": row, "attention_mask": np.ones_like(row),
             "position_ids": np.arange(length)[None]}  # fmt: skip
    for one in session.get_inputs():
        if one.name not in given:
            sizes = {"batch_size": 1}
            shape = [size if isinstance(size, int) else sizes.get(size, 0) for size in one.shape]
            kind = np.float16 if "float16" in one.type else np.float32
            given[one.name] = np.zeros(shape, kind)
    names = {one.name for one in session.get_inputs()}
    return {name: value for name, value in given.items() if name in names}


def positions(length: int) -> list[int]:
    """The positions of tiny_models.py."""
    return [*range(0, length - 1, 53), length - 1]


def correlations(found: Any, known: Any) -> dict[str, list[float]]:
    return {
        name.removeprefix("logits_"): [
            float(np.corrcoef(one, other)[0, 1])
            for one, other in zip(found[name], known[name], strict=True)
        ]
        for name in known.files
        if name.startswith("logits_")
    }


def tokens(folder: Path, _target: Path) -> list[list[int]]:
    """Token ids of the probe texts, by the class that users load."""
    from transformers import AutoTokenizer

    probes = support("tiny_tokenizers").PROBES
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text).input_ids for text in probes]


def support(name: str) -> Any:
    """Import a module of this folder, whose gguf.py must not stand before the package's."""
    import importlib

    sys.path.append(str(SUPPORT))
    return importlib.import_module(name)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main(sys.argv[1:]))
