"""Answer with the session of template onnx-runtime on the CPU; run in env `triton-onnx-runtime`.

    python onnx_runtime_answers.py TEMPLATES ENGINE REQUESTS.json

REQUESTS.json is a list of [tokens, max_tokens], which are answered together, as many as there are.
Prints one JSON list: the tokens of each answer, stop tokens too.
"""

import json
import sys
import types
from pathlib import Path

TEMPLATES, ENGINE, REQUESTS = map(Path, sys.argv[1:])
sys.path[:0] = [str(TEMPLATES / "onnx-runtime"), str(TEMPLATES / "shared")]
# Only Triton has it, and nothing of it is used here.
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")

from generation import Generator, Sampling  # type: ignore[import-not-found]  # noqa: E402
from session import Session  # type: ignore[import-not-found]  # noqa: E402


class NoWords:
    """No text: requests are tokens."""

    stop: frozenset[int] = frozenset()


def main() -> None:
    """Answer all requests."""
    requests = json.loads(REQUESTS.read_text())
    limits = types.SimpleNamespace(
        max_batch_size=len(requests),
        max_seq_len=512,
        kv_cache_mib=None,
        execution_provider="CPUExecutionProvider",
    )
    generator = Generator(Session(ENGINE, limits), NoWords())
    handles = [generator.add(tokens, limit, Sampling()) for tokens, limit in requests]
    answers: list[list[int]] = [[] for _ in handles]
    while generator.busy():
        generator.step()
        for answer, handle in zip(answers, handles, strict=True):
            answer.extend(one.token for one in handle.new_tokens())
    sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
