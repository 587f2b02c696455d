"""Packages that stand for NVIDIA's runtimes where their CUDA code would begin.

They have the names, signatures and result classes that the Triton models use, as the real packages
have them (tensorrt-edgellm 0.11.0, TensorRT-LLM 1.2.1), and answer with words instead of a GPU.
"""

from __future__ import annotations

from pathlib import Path

_WORDS = """
import json, time
WORDS = ["The ", "capital ", "is ", "Paris", "."]

def words(prompt, limit):
    if "long" in prompt:
        for number in range(limit):
            time.sleep(0.05)
            yield f"{number} "
    else:
        yield from WORDS[:limit]

def note(log, **facts):
    with open(log, "a") as file:
        file.write(json.dumps(facts) + "\\n")
"""

_EDGE = {
    "words.py": _WORDS,
    "experimental/__init__.py": "",
    "experimental/server/__init__.py": """
from dataclasses import dataclass, field
from pathlib import Path
from words import note, words

@dataclass
class SamplingParams:
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 50
    max_tokens: int = 2048

@dataclass
class StreamDelta:
    text: str = ""
    token_ids: list = field(default_factory=list)
    prompt_tokens: int | None = None
    finished: bool = False
    finish_reason: str | None = None

class Closing:
    def __init__(self, iterator, log):
        self.iterator, self.log, self.closed = iterator, log, False
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.iterator)
    def close(self):
        if not self.closed:
            note(self.log, event="closed")
        self.closed = True

class LLM:
    def __init__(self, model, *, cache_dir="", max_input_len, max_batch_size,
                 max_kv_cache_capacity, enable_in_flight_batching=False):
        from experimental.server.runtime.engine_build import prepare_model
        prepared = prepare_model(model, cache_dir, None)
        self.log = Path(prepared.bundle_dir) / "log.jsonl"
        note(self.log, event="loaded", model_dir=prepared.model_dir,
             batching=enable_in_flight_batching,
             lengths=[max_input_len, max_kv_cache_capacity, max_batch_size])

    def generate_stream(self, messages, sampling_params=None):
        return Closing(self._iterate(messages[-1]["content"], sampling_params), self.log)

    def _iterate(self, prompt, params):
        note(self.log, event="asked", top_k=params.top_k, temperature=params.temperature)
        if "refuse" in prompt:
            yield StreamDelta(finished=True, finish_reason="error")
            return
        said = 0
        for word in words(prompt, params.max_tokens):
            said += 1
            yield StreamDelta(word, [said], 7)
        reason = "length" if said == params.max_tokens else "stop"
        yield StreamDelta("", [], 7, True, reason)

    def close(self):
        note(self.log, event="unloaded")
""",
    "experimental/server/runtime/__init__.py": "",
    "experimental/server/runtime/engine_build.py": """
from dataclasses import dataclass

@dataclass(frozen=True)
class PreparedModel:
    bundle_dir: str
    model_dir: str

def prepare_model(model, cache_dir="", options=None):
    raise RuntimeError("this would compile the checkpoint")
""",
}

_TRTLLM = {
    "words.py": _WORDS,
    "tensorrt_llm/__init__.py": """
from dataclasses import dataclass, field
from pathlib import Path
from words import note, words

@dataclass
class SamplingParams:
    max_tokens: int = 32
    temperature: float | None = None
    top_k: int | None = None

@dataclass
class Completion:
    text_diff: str
    token_ids: list
    finish_reason: str | None

@dataclass
class Output:
    outputs: list

class Result:
    def __init__(self, llm, prompt, params):
        self.llm, self.finished = llm, False
        self.words = words(prompt, params.max_tokens)
        self.limit, self.said = params.max_tokens, []
    def __iter__(self):
        for word in self.words:
            self.said.append(len(self.said))
            yield Output([Completion(word, list(self.said), None)])
        self.finished = True
        reason = "length" if len(self.said) == self.limit else "stop"
        yield Output([Completion("", list(self.said), reason)])
    def abort(self):
        note(self.llm.log, event="aborted")

class Tokenizer:
    chat_template = "yes"
    def apply_chat_template(self, turns, tokenize, add_generation_prompt):
        said = " ".join(f"<{one['role']}> {one['content']}" for one in turns)
        return f"{said} <assistant>"
    def encode(self, text, add_special_tokens=True):
        self.text = text
        return text.split()

class LLM:
    kind = "checkpoint"
    def __init__(self, model, tokenizer, kv_cache_config, **options):
        self.log = Path(model) / "log.jsonl"
        self.tokenizer = Tokenizer()
        note(self.log, event="loaded", kind=self.kind, tokenizer=tokenizer, options=options,
             fraction=kv_cache_config.free_gpu_memory_fraction)
    def generate_async(self, inputs, sampling_params, streaming):
        note(self.log, event="asked", top_k=sampling_params.top_k)
        return Result(self, " ".join(inputs), sampling_params)
    def shutdown(self):
        note(self.log, event="unloaded")
""",
    "tensorrt_llm/llmapi.py": """
from dataclasses import dataclass

@dataclass
class KvCacheConfig:
    free_gpu_memory_fraction: float
""",
    "tensorrt_llm/_tensorrt_engine.py": """
import tensorrt_llm

class LLM(tensorrt_llm.LLM):
    kind = "engine"
""",
}

PACKAGES = {"edge-llm": _EDGE, "tensorrt-llm": _TRTLLM}


def write(builder: str, folder: Path) -> None:
    """Put the stand-in of a builder's runtime beside its model.py."""
    for name, text in PACKAGES[builder].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
