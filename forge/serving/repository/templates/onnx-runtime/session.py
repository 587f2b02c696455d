# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""A graph in ONNX Runtime and its KV caches in the memory of the device. On a GPU not yet run.

The graph concatenates: a call reads `past_key_values.*` of n tokens and writes `present.*` of
n + new. So there is a block of memory for each sequence, as long as the longest one, and a spare
one: a call writes into the spare block, which becomes the sequence's, and its old one the spare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cuda_driver
import numpy as np
import onnxruntime
from model_io import Limits

MODEL = "model.onnx"
PAST, PRESENT = "past_key_values.", "present."
LOGITS = "logits"
TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
DEVICES = {CPU: "cpu", CUDA: "cuda"}
# TF32 would make fp32 less exact on GPUs that have it.
OPTIONS: dict[str, dict[str, str]] = {CPU: {}, CUDA: {"device_id": "0", "use_tf32": "0"}}
# Most tokens of one call. Their logits are copied to the host: 65 MB with 128,000 words in fp32.
PROMPT_PIECE = 128


@dataclass(frozen=True)
class CacheTensor:
    """One layer's keys or values: `[1, heads, tokens, width]`."""

    past: str
    present: str
    heads: int
    width: int
    dtype: np.dtype[Any]

    def shape(self, tokens: int) -> list[int]:
        """Shape with so many tokens."""
        return [1, self.heads, tokens, self.width]

    def bytes(self, tokens: int) -> int:
        """Size of so many tokens."""
        return math.prod(self.shape(tokens)) * self.dtype.itemsize


class Session:
    """Computes one sequence at a time; satisfies generation.Runtime."""

    def __init__(self, engine: Path, limits: Limits) -> None:
        """Load the graph and take all memory for KV caches.

        Raises RuntimeError: the provider cannot be used here, or too little memory.
        """
        self.slots = limits.max_batch_size
        self.max_seq_len = limits.max_seq_len
        self.prompt_piece = min(PROMPT_PIECE, self.max_seq_len - 1)
        self.device = DEVICES[limits.execution_provider]
        self.session = load(engine / MODEL, limits.execution_provider)
        self.inputs = {one.name for one in self.session.get_inputs()}
        self.cache = cache_tensors(self.session)
        (logits,) = (one for one in self.session.get_outputs() if one.name == LOGITS)
        self.logits_type, self.vocabulary = TYPES[logits.type], int(logits.shape[-1])
        self._allocate(limits.kv_cache_mib)

    def _allocate(self, allowed_mib: int | None) -> None:
        block = sum(one.bytes(self.max_seq_len) for one in self.cache)
        needed = -(-block * (self.slots + 1) // 2**20)
        if allowed_mib and needed > allowed_mib:
            raise RuntimeError(
                f"{self.slots} KV caches of {self.max_seq_len} tokens and a spare one require"
                f" {needed} MiB, serving.kv_cache_mib is {allowed_mib}"
            )
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self.blocks = [make([block], np.uint8, self.device, 0) for _ in range(self.slots + 1)]

    def warm_up(self) -> None:
        """Read a piece and add a token: the runtime takes its memory now, not in a request."""
        self.run(0, [0] * self.prompt_piece, 0)
        self.run(0, [0], self.prompt_piece)

    def run(self, slot: int, tokens: list[int], past: int) -> Any:
        """Add tokens to a slot's KV cache, which holds `past`; logits of the last, [vocabulary].

        Raises RuntimeError if the sequence becomes too long, and ONNX Runtime's own errors.
        """
        return self.run_all(slot, tokens, past)[-1]

    def run_all(self, slot: int, tokens: list[int], past: int) -> Any:
        """As `run`; logits of all tokens, [tokens, vocabulary]."""
        new, whole = len(tokens), past + len(tokens)
        if not 1 <= new <= self.prompt_piece or whole > self.max_seq_len:
            raise RuntimeError(f"{new} tokens cannot be added to {past} of {self.max_seq_len}")
        binding = self.session.io_binding()
        values = {
            "input_ids": np.asarray([tokens], np.int64),
            "position_ids": np.arange(past, whole, dtype=np.int64)[None],
            "attention_mask": np.ones((1, whole), np.int64),
        }
        for name in self.inputs & values.keys():
            binding.bind_cpu_input(name, values[name])
        self._bind_cache(binding, slot, past, whole)
        logits = np.empty((1, new, self.vocabulary), self.logits_type)
        binding.bind_output(LOGITS, "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        self.session.run_with_iobinding(binding)
        self.blocks[slot], self.blocks[-1] = self.blocks[-1], self.blocks[slot]
        return logits[0]

    def _bind_cache(self, binding: Any, slot: int, past: int, whole: int) -> None:
        read, write = self.blocks[slot].data_ptr(), self.blocks[-1].data_ptr()
        for one in self.cache:
            binding.bind_input(one.past, self.device, 0, one.dtype, one.shape(past), read)
            binding.bind_output(one.present, self.device, 0, one.dtype, one.shape(whole), write)
            read += one.bytes(self.max_seq_len)
            write += one.bytes(self.max_seq_len)


def load(model: Path, provider: str) -> Any:
    """Load a graph. Raises RuntimeError if the provider cannot be used on this machine."""
    if provider == CUDA:
        cuda_driver.require()
        onnxruntime.preload_dlls(directory="")  # CUDA and cuDNN of the environment's wheels
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"This ONNX Runtime has no {provider}")
    session = onnxruntime.InferenceSession(
        str(model), providers=[(provider, OPTIONS[provider])], enable_fallback=0
    )
    if provider not in session.get_providers():
        raise RuntimeError(f"ONNX Runtime cannot use {provider} on this machine: see its log")
    return session


def cache_tensors(session: Any) -> tuple[CacheTensor, ...]:
    """The graph's KV cache, in its own order. Raises RuntimeError for a graph without one."""
    outputs = {one.name for one in session.get_outputs()}
    found = []
    for one in session.get_inputs():
        if not one.name.startswith(PAST):
            continue
        present = PRESENT + one.name.removeprefix(PAST)
        if present not in outputs:
            raise RuntimeError(f"The graph has {one.name} and no {present}")
        _, heads, _, width = one.shape
        found.append(CacheTensor(one.name, present, int(heads), int(width), TYPES[one.type]))
    if not found:
        raise RuntimeError("The graph has no KV cache")
    return tuple(found)
