"""Packages that stand for NVIDIA's runtimes where their CUDA code would begin.

They have the names, signatures and result classes that the Triton models use, as the real packages
have them (tensorrt-edgellm 0.11.0, TensorRT-LLM 1.2.1), and answer with words instead of a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SAID = ("The ", "capital ", "is ", "Paris", ".")
_WORDS = (
    f"""
import json, time
WORDS = {_SAID}
"""
    """

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
)

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
        note(self.log, event="prompt", prompt=messages)
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
import tokenizers
import numpy as np
from dataclasses import dataclass, field
from pathlib import Path
from words import note, words

@dataclass
class SamplingParams:
    max_tokens: int = 32
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool = False
    return_context_logits: bool = False

__version__ = "1.2.1"

class Logits:  # of token t at place p: the token after it in a circle of 16 is the likeliest
    def __init__(self, tokens):
        self.rows = np.zeros((len(tokens), 300), np.float16)
        for place, token in enumerate(tokens):
            self.rows[place, (token + 1) % 16] = 3.0
    def float(self):
        return self
    def cpu(self):
        return self.rows.astype(np.float32)

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
            self.said.append(self.llm.tokenizer.token_to_id(word.replace(" ", "\u0120")))
            yield Output([Completion(word, list(self.said), None)])
        self.finished = True
        reason = "length" if len(self.said) == self.limit else "stop"
        yield Output([Completion("", list(self.said), reason)])
    def abort(self):
        note(self.llm.log, event="aborted")

@dataclass
class Scored:
    context_logits: Logits
    def result(self):
        return self

class LLM:
    kind = "checkpoint"
    def __init__(self, model, tokenizer, kv_cache_config, **options):
        self.log = Path(model) / "log.jsonl"
        path = Path(tokenizer) / "tokenizer.json"
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        note(self.log, event="loaded", kind=self.kind, tokenizer=tokenizer, options=options,
             fraction=kv_cache_config.free_gpu_memory_fraction)
    def generate_async(self, inputs, sampling_params, streaming):
        note(self.log, event="asked", top_k=sampling_params.top_k)
        if sampling_params.return_context_logits:
            return Scored(Logits(inputs))
        prompt = self.tokenizer.decode(inputs, skip_special_tokens=False)
        note(self.log, event="prompt", prompt=prompt)
        return Result(self, prompt, sampling_params)
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

_CHAT = """{% for message in messages %}
{% if loop.first and message.role == 'assistant' %}{{ raise_exception('roles must alternate') }}
{%- endif %}
<{{ message.role }}> {{ message.content }} {% endfor %}<assistant>"""


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of bytes with a chat template, as a Hugging Face folder has them."""
    signs = {chr(code): code for code in range(256)}  # in ASCII, ByteLevel's letters are the bytes
    signs |= {"\u0120": 256, "\u010a": 257}  # its letters for the blank and the line's end
    words = [*_SAID, *(f"{number} " for number in range(1000))]  # what the stand-ins answer
    signs |= {word.replace(" ", "\u0120"): 300 + n for n, word in enumerate(words)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}  # fmt: skip
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": signs, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(_CHAT)


PACKAGES = {"edge-llm": _EDGE, "tensorrt-llm": _TRTLLM}


def write(builder: str, folder: Path) -> None:
    """Put the stand-in of a builder's runtime beside its model.py."""
    for name, text in PACKAGES[builder].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
