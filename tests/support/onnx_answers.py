"""Ask an exported ONNX model on the CPU with the serving template's own code; run in env `onnx`.

    python onnx_answers.py TEMPLATES ONNX_FOLDER PROMPT MAX_TOKENS

ONNX Runtime stands where the GPU's engine does (generation.Runtime): the same graph, the same
calls, the same KV cache. Prints one JSON object: text, tokens, finish reason.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, sys.argv[1])
sys.path.insert(1, f"{sys.argv[1]}/../shared")

import text  # type: ignore[import-not-found]
import turns  # type: ignore[import-not-found]
from generation import Generator, Sampling  # type: ignore[import-not-found]

PAST = "past_key_values."


class OnnxRuntime:
    """One KV cache in host memory."""

    slots = 1
    prompt_piece = 5  # shorter than any prompt, so that prompts come in pieces

    def __init__(self, model: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(model))
        inputs = {one.name: one.shape for one in self.session.get_inputs()}
        self.empty = {
            name: np.zeros((1, shape[1], 0, shape[3]), np.float16)
            for name, shape in inputs.items()
            if name.startswith(PAST)
        }
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.cache: dict[str, np.ndarray] = {}

    def run(self, slot: int, tokens: list[int], past: int) -> np.ndarray:
        """As gpu.Engine.run."""
        return np.asarray(self.run_all(slot, tokens, past)[-1])

    def run_all(self, slot: int, tokens: list[int], past: int) -> np.ndarray:
        """As gpu.Engine.run_all."""
        assert slot == 0
        self.cache = self.cache if past else self.empty
        assert all(value.shape[2] == past for value in self.cache.values())
        whole = past + len(tokens)
        feed = {
            "input_ids": np.array([tokens], np.int64),
            "position_ids": np.arange(past, whole, dtype=np.int64)[None],
            "attention_mask": np.ones((1, whole), np.int64),
        }
        values = dict(zip(self.outputs, self.session.run(None, feed | self.cache), strict=True))
        logits = values.pop("logits")
        self.cache = {name.replace("present.", PAST): value for name, value in values.items()}
        return np.asarray(logits[0])


def main() -> None:
    """Generate one answer."""
    folder = Path(sys.argv[2])
    words = text.load(folder)
    generator = Generator(OnnxRuntime(folder / "model.onnx"), words)
    prompt = words.encode(turns.read(sys.argv[3]))
    handle = generator.add(prompt, int(sys.argv[4]), Sampling())
    tokens: list[int] = []
    while generator.busy():
        generator.step()
        tokens += [one.token for one in handle.new_tokens()]
    answer = {
        "text": words.decode(tokens),
        "input_tokens": len(prompt),
        "output_tokens": len(tokens),
        "finish_reason": handle.finish_reason,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
