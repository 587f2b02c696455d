# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves OpenVINO IR with continuous batching.

All values come from config.pbtxt's parameters; nothing is written into this file.
"""

from __future__ import annotations

import os
import random
import site
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Triton's stub makes sys.path without PYTHONPATH, so the packages come from here.
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])

import batching
import openvino_genai as genai
import text
from choice import Chosen
from forms import Forms, tensor
from model_io import Limits
from runtime_tokenizer import RuntimeTokenizer
from sampling import Sampling
from scorer import Scorer
from turns import RequestError

# Tokens in one block of the KV cache on a CPU (openvino.genai, cache_manager.hpp).
BLOCK_TOKENS = 32
FILES = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)


class TritonPythonModel(batching.Model):
    """What Triton's Python backend calls."""

    def load(self, engine: Path, limits: Limits) -> batching.Generator:
        """Load OpenVINO's pipeline on the CPU."""
        missing = [name for name in FILES if not (engine / name).is_file()]
        if missing:
            raise FileNotFoundError(f"The engine lacks {', '.join(missing)}")
        return Generator(engine, limits)


class Generator:
    """OpenVINO's continuous batching."""

    def __init__(self, engine: Path, limits: Limits) -> None:
        self.pipeline = genai.ContinuousBatchingPipeline(
            str(engine), scheduler(limits), "CPU", {}, {}
        )
        tokenizer = self.pipeline.get_tokenizer()
        own = (engine / text.TOKENIZER).is_file()
        self.words = text.load(engine, None if own else RuntimeTokenizer(tokenizer))
        self.forms = Forms(engine, tokenizer)
        self.defaults = self.pipeline.get_config()
        self.scorer = Scorer(engine)
        self.next_id = 0

    def check(self, sampling: Sampling) -> None:
        """Refuse alternatives that OpenVINO does not return, and forms that it cannot compile."""
        if sampling.top_logprobs and not (sampling.top_logprobs == 1 and is_greedy(sampling)):
            raise RequestError(
                "top_logprobs: OpenVINO returns the logarithm of the answered token only, which is"
                " the likeliest one at temperature 0 without penalties"
            )
        self.forms.check(sampling.structured_outputs)

    def add(self, prompt: list[int], max_tokens: int, sampling: Sampling) -> Handle:
        """Add a sequence to the pipeline."""
        config = genai.GenerationConfig()
        config.set_eos_token_id(self.defaults.eos_token_id)
        config.stop_token_ids = set() if sampling.ignore_eos else self.defaults.stop_token_ids
        config.ignore_eos = sampling.ignore_eos
        config.max_new_tokens = max_tokens
        config.min_new_tokens = min(sampling.min_tokens, max_tokens)
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        config.repetition_penalty = sampling.repetition_penalty
        if sampling.temperature > 0:
            config.do_sample = True
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            config.min_p = sampling.min_p
            if sampling.top_k:
                config.top_k = sampling.top_k
            # OpenVINO's default is 0, for every request.
            given = sampling.seed is not None
            config.rng_seed = sampling.seed % 2**64 if given else random.getrandbits(32)
        if sampling.top_logprobs is not None:
            config.logprobs = 1
        if sampling.structured_outputs is not None:
            form = sampling.structured_outputs
            config.structured_output_config = self.forms.configuration(form)
        self.next_id += 1
        handle = self.pipeline.add_request(self.next_id, tensor(prompt), config)
        return Handle(handle, alternatives=sampling.top_logprobs or 0)

    def add_scored(self, tokens: list[int], *, top: bool) -> Handle:
        """Add tokens to the pipeline, which returns their own logarithms with one token more.

        It does not return the likeliest tokens: for those the graph is run once without it.
        """
        if top:
            return self.scorer.score(tokens)
        config = genai.GenerationConfig()
        config.max_new_tokens = 1
        config.ignore_eos = True
        config.echo = True
        config.logprobs = 1
        self.next_id += 1
        return Echoed(self.pipeline.add_request(self.next_id, tensor(tokens), config), tokens)

    def busy(self) -> bool:
        """Return whether a sequence runs or, cancelled, still holds blocks of the KV cache."""
        return bool(self.pipeline.has_non_finished_requests()) or self.scorer.busy()

    def step(self) -> None:
        """Compute one token for every sequence, or part of a prompt."""
        self.scorer.step()
        if self.pipeline.has_non_finished_requests():
            self.pipeline.step()


class Handle:
    """One sequence in OpenVINO's pipeline."""

    scored: list[Chosen] = []  # noqa: RUF012 - it is not scored

    def __init__(self, handle: Any, alternatives: int = 0) -> None:
        self.handle = handle
        self.alternatives = alternatives
        self.finish_reason = "stop"

    @property
    def finished(self) -> bool:
        """Whether no more tokens will come."""
        return bool(self.handle.get_status() != genai.GenerationStatus.RUNNING)

    def new_tokens(self) -> list[Chosen]:
        """Return the tokens since the last call."""
        tokens: list[Chosen] = []
        while self.handle.can_read():
            for output in self.handle.read().values():
                tokens.extend(self._chosen(output))
                if output.finish_reason == genai.GenerationFinishReason.LENGTH:
                    self.finish_reason = "length"
        return tokens

    def _chosen(self, output: Any) -> Iterator[Chosen]:
        logprobs = output.generated_log_probs or [0.0] * len(output.generated_ids)
        for token, logprob in zip(output.generated_ids, logprobs, strict=True):
            top = ((token, float(logprob)),) * self.alternatives
            yield Chosen(token, float(logprob), top)

    def cancel(self) -> None:
        """Stop it; the pipeline's next step frees its blocks."""
        self.handle.cancel()


class Echoed(Handle):
    """Tokens that are scored in OpenVINO's pipeline."""

    def __init__(self, handle: Any, tokens: list[int]) -> None:
        super().__init__(handle)
        self.tokens = tokens
        self.found: list[float] = []

    @property
    def scored(self) -> list[Chosen]:  # type: ignore[override]
        """Each token but the first with its logarithm."""
        logprobs = self.found[1 : len(self.tokens)]
        return [Chosen(*one) for one in zip(self.tokens[1:], logprobs, strict=True)]

    def new_tokens(self) -> list[Chosen]:
        """Return nothing; keep the logarithms."""
        while self.handle.can_read():
            for output in self.handle.read().values():
                self.found.extend(float(one) for one in output.generated_log_probs)
        return []


def is_greedy(sampling: Sampling) -> bool:
    """Return whether every answered token is the likeliest one of the engine."""
    default = Sampling()
    free = ("temperature", "presence_penalty", "frequency_penalty", "repetition_penalty",
            "min_tokens", "structured_outputs")  # fmt: skip
    return all(getattr(sampling, name) == getattr(default, name) for name in free)


def scheduler(limits: Limits) -> Any:
    """Return the scheduler: a KV cache for every sequence at its longest, or the given size."""
    config = genai.SchedulerConfig()
    config.max_num_seqs = limits.max_batch_size
    if limits.max_num_batched_tokens:
        config.max_num_batched_tokens = limits.max_num_batched_tokens
    if limits.kv_cache_mib:
        config.cache_size = -(-limits.kv_cache_mib // 1024)  # OpenVINO counts whole GiB
    else:
        config.num_kv_blocks = limits.max_batch_size * -(-limits.max_seq_len // BLOCK_TOKENS)
    return config
