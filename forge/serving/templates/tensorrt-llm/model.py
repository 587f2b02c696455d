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

import turns
from streaming import Limits, Piece, RequestError, StreamingModel, Wanted


class TritonPythonModel(StreamingModel):
    """The LLM of one engine folder or checkpoint."""

    def load(self, engine: Path, limits: Limits) -> None:
        """Start the runtime; its own scheduler batches the requests."""
        from tensorrt_llm.llmapi import KvCacheConfig

        mode = json.loads((engine / "engine.json").read_text(encoding="utf-8"))["mode"]
        options: dict[str, Any] = {
            "model": str(engine),
            "kv_cache_config": KvCacheConfig(
                free_gpu_memory_fraction=limits.kv_cache_percent / 100
            ),
        }
        if mode == "engine":  # the lengths are compiled into it
            from tensorrt_llm._tensorrt_engine import LLM

            options["tokenizer"] = str(engine / "tokenizer")
        else:
            from tensorrt_llm import LLM

            options |= {
                "tokenizer": str(engine),
                "max_batch_size": limits.max_batch_size,
                "max_input_len": limits.max_input_len,
                "max_seq_len": limits.max_seq_len,
            }
        self.llm = LLM(**options)

    def generate(self, wanted: Wanted) -> Iterator[Piece]:
        """The answer in pieces."""
        from tensorrt_llm import SamplingParams

        prompt = self._encode(wanted.said)
        if len(prompt) > self.limits.max_input_len:
            raise RequestError(
                f"The prompt has {len(prompt)} tokens; this model takes at most"
                f" {self.limits.max_input_len}"
            )
        greedy = wanted.temperature == 0
        params = SamplingParams(
            max_tokens=min(wanted.max_tokens, self.limits.max_seq_len - len(prompt)),
            temperature=None if greedy else wanted.temperature,
            top_k=1 if greedy else None,
        )
        result = self.llm.generate_async(prompt, sampling_params=params, streaming=True)
        seen = 0
        try:
            for output in result:
                [answer] = output.outputs
                yield Piece(
                    answer.text_diff,
                    len(answer.token_ids) - seen,
                    len(prompt),
                    str(answer.finish_reason or ""),
                )
                seen = len(answer.token_ids)
        finally:
            if not result.finished:
                result.abort()

    def _encode(self, said: turns.Turns | str) -> list[int]:
        import jinja2

        tokenizer = self.llm.tokenizer
        if isinstance(said, str) or not getattr(tokenizer, "chat_template", None):
            return list(tokenizer.encode(turns.without_template(said)))
        try:
            text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateError as error:  # they refuse orders of roles that they do not know
            raise RequestError(f"The chat template refuses the messages: {error}") from None
        return list(tokenizer.encode(text, add_special_tokens=False))

    def close(self) -> None:
        """End the runtime's processes and give the memory back."""
        self.llm.shutdown()
