# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves TensorRT-LLM by its LLM API. Never run on hardware by us.

engine.json says the mode: `engine` loads what trtllm-build compiled (TensorRT-LLM 1.2.1 keeps that
in `tensorrt_llm._tensorrt_engine`), `llmapi` a Hugging Face checkpoint (any newer release).
"""

from __future__ import annotations

import json
import os
import site
import sys
from pathlib import Path

# Triton's stub makes sys.path without PYTHONPATH; in NVIDIA's image the packages are the system's.
if "FORGE_SITE_PACKAGES" in os.environ:
    site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])
sys.path.append(str(Path(__file__).parent))

from collections.abc import Iterator
from typing import Any

import text
import turns
from model_io import check_length
from pieces import Pieces
from sampling import Sampling
from streaming import Limits, Piece, StreamingModel, Wanted


class TritonPythonModel(StreamingModel):
    """The LLM of one engine folder or checkpoint."""

    def load(self, engine: Path, limits: Limits) -> None:
        """Start the runtime; its own scheduler batches the requests."""
        import tensorrt_llm
        from tensorrt_llm.llmapi import KvCacheConfig

        facts = json.loads((engine / "engine.json").read_text(encoding="utf-8"))
        mode, bound = facts["mode"], facts["runtime"].get("tensorrt-llm")
        if bound not in (None, tensorrt_llm.__version__):
            message = f"This bundle requires TensorRT-LLM {bound}, but this image has"
            raise RuntimeError(f"{message} {tensorrt_llm.__version__}")
        options: dict[str, Any] = {
            "model": str(engine),
            "kv_cache_config": KvCacheConfig(free_gpu_memory_fraction=limits.kv_cache_fraction),
        }
        tokenizer = engine
        if mode == "engine":  # the lengths are compiled into it
            from tensorrt_llm._tensorrt_engine import LLM

            tokenizer = engine / "tokenizer"
        else:
            from tensorrt_llm import LLM

            options |= {
                "max_batch_size": limits.max_batch_size,
                "max_input_len": limits.max_input_len,
                "max_seq_len": limits.max_seq_len,
            }
        self.words = text.load(tokenizer)
        self.tool_calls = self.words.tool_calls
        self.scores = mode == "llmapi"  # an engine would have to be compiled for it
        self.llm = LLM(tokenizer=str(tokenizer), **options)

    def generate(self, wanted: Wanted) -> Iterator[Piece]:
        """The answer in pieces."""
        from tensorrt_llm import SamplingParams

        prompt = self.words.encode(wanted.said)
        check_length(len(prompt), self.limits)
        most = min(wanted.max_tokens, self.limits.max_seq_len - len(prompt))
        params = SamplingParams(max_tokens=most, **options(wanted.sampling))
        result = self.llm.generate_async(prompt, sampling_params=params, streaming=True)
        pieces = Pieces(self.words)
        try:
            for output in result:
                [answer] = output.outputs
                reason = str(answer.finish_reason or "")
                fresh = list(answer.token_ids[len(pieces.tokens) :])
                text = pieces.add(fresh, last=bool(reason))
                yield Piece(text, len(fresh), len(prompt), reason)
        finally:
            if not result.finished:
                result.abort()

    def direct(self, said: turns.Tokenize | turns.Detokenize) -> tuple[str, int]:
        """Return the text of tokens, or JSON of the tokens of a text, and their number."""
        if isinstance(said, turns.Detokenize):
            return self.words.decode(list(said.tokens), skip_special=False), len(said.tokens)
        tokens = self.words.tokenize(said)
        return json.dumps(tokens), len(tokens)

    def score(self, tokens: tuple[int, ...]) -> list[float]:
        """Return the logarithm of each token but the first.

        From the logits, since `prompt_logprobs` of 1.2 holds the most likely tokens only: those of
        the prompt are in it from 1.3.0rc11 on (TensorRT-LLM #11866).
        """
        import numpy as np
        from tensorrt_llm import SamplingParams

        check_length(len(tokens), self.limits)
        params = SamplingParams(max_tokens=1, top_k=1, return_context_logits=True)
        result = self.llm.generate_async(list(tokens), sampling_params=params, streaming=False)
        logits = np.asarray(result.result().context_logits.float().cpu(), np.float64)
        if len(logits) != len(tokens):  # those of tokens in the runtime's cache may be missing
            message = f"the runtime returned logits of {len(logits)} tokens, not of {len(tokens)}"
            raise RuntimeError(message)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        return [float(logits[place, token]) for place, token in enumerate(tokens[1:])]

    def close(self) -> None:
        """End the runtime's processes and give the memory back."""
        self.llm.shutdown()


def options(sampling: Sampling) -> dict[str, Any]:
    """Return the parameters as `SamplingParams` takes them; it has the names of vLLM's API."""
    found: dict[str, Any] = {
        "seed": None if sampling.seed is None else sampling.seed % 2**64,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "min_tokens": sampling.min_tokens or None,
        "ignore_eos": sampling.ignore_eos,
    }
    if sampling.temperature == 0:
        return {**found, "temperature": None, "top_k": 1}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "min_p": sampling.min_p}
    return {**found, **drawn, "top_k": sampling.top_k or None}
