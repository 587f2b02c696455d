# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves OpenVINO IR with continuous batching.

All values come from config.pbtxt's parameters; nothing is written into this file.
"""

from __future__ import annotations

import os
import site
from pathlib import Path
from typing import Any

# Triton's stub makes sys.path without PYTHONPATH, so the packages come from here.
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])

import batching
import openvino_genai as genai
import turns

# Tokens in one block of the KV cache on a CPU (openvino.genai, cache_manager.hpp).
BLOCK_TOKENS = 32
FILES = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)


class TritonPythonModel(batching.Model):
    """What Triton's Python backend calls."""

    def load(self, engine: Path, limits: batching.Limits) -> batching.Generator:
        """OpenVINO's pipeline on the CPU."""
        missing = [name for name in FILES if not (engine / name).is_file()]
        if missing:
            raise FileNotFoundError(f"The engine lacks {', '.join(missing)}")
        return Generator(engine, limits)


class Generator:
    """OpenVINO's continuous batching."""

    def __init__(self, engine: Path, limits: batching.Limits) -> None:
        self.pipeline = genai.ContinuousBatchingPipeline(
            str(engine), scheduler(limits), "CPU", {}, {}
        )
        self.tokenizer = self.pipeline.get_tokenizer()
        self.defaults = self.pipeline.get_config()
        self.next_id = 0

    def encode(self, said: turns.Turns | str) -> tuple[Any, int]:
        """Token ids, [1, n], and n."""
        if isinstance(said, str) or not self.tokenizer.chat_template:
            ids = self.tokenizer.encode(turns.without_template(said)).input_ids
            return ids, int(ids.shape[-1])
        try:
            text = self.tokenizer.apply_chat_template(said, add_generation_prompt=True)
        except RuntimeError as error:  # templates refuse orders of roles that they do not know
            raise turns.RequestError(f"The chat template refuses the messages: {error}") from None
        ids = self.tokenizer.encode(text, add_special_tokens=False).input_ids
        return ids, int(ids.shape[-1])

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens."""
        return str(self.tokenizer.decode(tokens))

    def add(self, prompt: Any, max_tokens: int, temperature: float) -> Handle:
        """Hand a sequence to the pipeline."""
        config = genai.GenerationConfig()
        config.set_eos_token_id(self.defaults.eos_token_id)
        config.stop_token_ids = self.defaults.stop_token_ids
        config.max_new_tokens = max_tokens
        if temperature > 0:
            config.do_sample = True
            config.temperature = temperature
        self.next_id += 1
        return Handle(self.pipeline.add_request(self.next_id, prompt, config))

    def busy(self) -> bool:
        """Whether a sequence runs, or was cancelled and still holds blocks of the KV cache."""
        return bool(self.pipeline.has_non_finished_requests())

    def step(self) -> None:
        """One token for every sequence, or part of a prompt."""
        self.pipeline.step()


class Handle:
    """One sequence in OpenVINO's pipeline."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.finish_reason = "stop"

    @property
    def finished(self) -> bool:
        """Whether no token will come any more."""
        return bool(self.handle.get_status() != genai.GenerationStatus.RUNNING)

    def new_tokens(self) -> list[int]:
        """Tokens since the last call."""
        tokens: list[int] = []
        while self.handle.can_read():
            for output in self.handle.read().values():
                tokens.extend(output.generated_ids)
                if output.finish_reason == genai.GenerationFinishReason.LENGTH:
                    self.finish_reason = "length"
        return tokens

    def cancel(self) -> None:
        """Stop it; the pipeline's next step frees its blocks."""
        self.handle.cancel()


def scheduler(limits: batching.Limits) -> Any:
    """Room in the KV cache for every sequence at its longest, unless a size is given."""
    config = genai.SchedulerConfig()
    config.max_num_seqs = limits.max_batch_size
    if limits.kv_cache_mib:
        config.cache_size = -(-limits.kv_cache_mib // 1024)  # OpenVINO counts whole GiB
    else:
        config.num_kv_blocks = limits.max_batch_size * -(-limits.max_seq_len // BLOCK_TOKENS)
    return config
