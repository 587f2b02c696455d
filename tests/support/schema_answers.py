"""What the real model answers to JSON schemas; run in the environment triton-openvino.

    python schema_answers.py TEMPLATES ENGINE MAX_TOKENS < SCHEMAS

Reads a JSON list of schemas, and prints a JSON list of answers in its order, at temperature 0.
"""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import openvino

TEMPLATES, ENGINE, MAX_TOKENS = sys.argv[1:]
for name in ("openvino", "shared"):
    sys.path.insert(0, f"{TEMPLATES}/{name}")
os.environ["FORGE_SITE_PACKAGES"] = str(Path(openvino.__file__).parents[1])
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")

import model  # type: ignore[import-not-found]  # noqa: E402
import turns  # type: ignore[import-not-found]  # noqa: E402
from model_io import Limits  # type: ignore[import-not-found]  # noqa: E402
from sampling import Sampling  # type: ignore[import-not-found]  # noqa: E402

BATCH = 8


def answers(generator: "model.Generator", schemas: list[Any]) -> list[str]:
    """The answers to some schemas, in one batch."""
    handles = []
    for schema in schemas:
        sampling = Sampling(structured_outputs={"json": schema})
        generator.check(sampling)
        said = f"Give an example of JSON that has this JSON schema: {json.dumps(schema)}"
        talk = turns.Conversation([{"role": "user", "content": said}])
        prompt = generator.words.encode(talk)
        handles.append(generator.add(prompt, int(MAX_TOKENS), sampling))
    tokens: list[list[int]] = [[] for _ in handles]
    while generator.busy():
        generator.step()
        for found, handle in zip(tokens, handles, strict=True):
            found += [one.token for one in handle.new_tokens()]
    for found, handle in zip(tokens, handles, strict=True):
        found += [one.token for one in handle.new_tokens()]
    return [generator.words.decode(found, skip_special=True) for found in tokens]


def main() -> None:
    """Answer all schemas."""
    schemas = json.load(sys.stdin)
    limits = Limits(
        max_batch_size=BATCH, max_seq_len=4096, kv_cache_mib=None, max_num_batched_tokens=256
    )
    generator = model.Generator(Path(ENGINE), limits)
    found: list[str] = []
    for at in range(0, len(schemas), BATCH):
        found += answers(generator, schemas[at : at + BATCH])
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
