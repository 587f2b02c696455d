# ruff: noqa: INP001 - Triton loads this file by its path
"""A TensorRT for RTX engine and its KV caches in GPU memory. Not yet run on hardware.

The graph concatenates: a call reads `past_key_values.*` of n tokens and writes `present.*` of
n + new. So each slot has two buffers as long as the longest sequence, and they change places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt_rtx_bindings as trt
from cuda.bindings import runtime as cudart
from model_io import Limits

PAST, PRESENT = "past_key_values.", "present."
TOKENS = ("input_ids", "position_ids", "attention_mask")


@dataclass(frozen=True)
class CacheTensor:
    """One layer's keys or values: `[1, heads, tokens, width]`."""

    past: str
    present: str
    heads: int
    width: int
    itemsize: int

    def bytes(self, tokens: int) -> int:
        """Size of so many tokens."""
        return self.heads * self.width * self.itemsize * tokens


class Engine:
    """Runs one sequence at a time; satisfies generation.Runtime."""

    def __init__(self, plan: Path, limits: Limits) -> None:
        """Load the engine and take all GPU memory it will ever need.

        Raises RuntimeError: no driver, another GPU than it was compiled for, or too little memory.
        """
        self.slots = limits.max_batch_size
        self.max_seq_len = limits.max_seq_len
        self.stream = call(cudart.cudaStreamCreate)
        self.log = Log()
        self.runtime = trt.Runtime(self.log)
        self.engine = self.runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.engine is None:
            raise RuntimeError(f"TensorRT for RTX cannot load {plan.name}: {self.log.last}")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise RuntimeError(f"TensorRT for RTX makes no context: {self.log.last}")
        _, _, longest = self.engine.get_tensor_profile_shape("input_ids", 0)
        self.prompt_piece = int(longest[1])
        self.cache = cache_tensors(self.engine)
        self._allocate(limits.kv_cache_mib)

    def _allocate(self, allowed_mib: int | None) -> None:
        slot = sum(one.bytes(self.max_seq_len) for one in self.cache)
        needed = -(-2 * slot * self.slots // 2**20)
        if allowed_mib and needed > allowed_mib:
            raise RuntimeError(
                f"{self.slots} KV caches of {self.max_seq_len} tokens need {needed} MiB,"
                f" serving.kv_cache_mib is {allowed_mib}"
            )
        # halves[slot] holds two blocks; `turn[slot]` says which one is read next.
        self.halves = [[self._take(slot), self._take(slot)] for _ in range(self.slots)]
        self.turn = [0] * self.slots
        self.vocabulary = int(self.engine.get_tensor_shape("logits")[-1])
        self.logits_type = np.dtype(trt.nptype(self.engine.get_tensor_dtype("logits")))
        self.logits = self._take(self.prompt_piece * self.vocabulary * self.logits_type.itemsize)
        self.row = np.empty(self.vocabulary, self.logits_type)
        longest = self.max_seq_len + self.prompt_piece
        self.inputs = {name: self._take(longest * np.dtype(np.int64).itemsize) for name in TOKENS}

    def _take(self, size: int) -> int:
        return int(call(cudart.cudaMalloc, size))

    def warm_up(self) -> None:
        """Read a piece and add a token: kernels are finished now, not in the first request."""
        piece = min(self.prompt_piece, self.max_seq_len - 1)
        self.run(0, [0] * piece, 0)
        self.run(0, [0], piece)

    def run(self, slot: int, tokens: list[int], past: int) -> Any:
        """Add tokens to a slot's KV cache, which holds `past`; logits of the last, [vocabulary].

        Raises RuntimeError if TensorRT or CUDA fails, or the sequence becomes too long.
        """
        self._execute(slot, tokens, past)
        self._read(slot, self.row, len(tokens) - 1)
        return self.row

    def run_all(self, slot: int, tokens: list[int], past: int) -> Any:
        """As `run`; logits of all tokens, [tokens, vocabulary]."""
        self._execute(slot, tokens, past)
        rows = np.empty((len(tokens), self.vocabulary), self.logits_type)
        self._read(slot, rows, 0)
        return rows

    def _execute(self, slot: int, tokens: list[int], past: int) -> None:
        new, whole = len(tokens), past + len(tokens)
        if not 1 <= new <= self.prompt_piece or whole > self.max_seq_len:
            raise RuntimeError(f"{new} tokens cannot be added to {past} of {self.max_seq_len}")
        values = {
            "input_ids": np.asarray([tokens], np.int64),
            "position_ids": np.arange(past, whole, dtype=np.int64)[None],
            "attention_mask": np.ones((1, whole), np.int64),
        }
        for name, value in values.items():
            self._upload(name, value)
        self._bind_cache(slot, past)
        self._check(self.context.set_tensor_address("logits", self.logits), "logits")
        self._check(self.context.execute_async_v3(self.stream), "the call")

    def _read(self, slot: int, rows: Any, first: int) -> None:
        """Copy logits from row `first` of the last call, and let the cache's halves change."""
        offset = first * self.vocabulary * self.logits_type.itemsize
        source = self.logits + offset
        self._copy(rows.ctypes.data, source, rows.nbytes, host_to_device=False)
        call(cudart.cudaStreamSynchronize, self.stream)
        self.turn[slot] = 1 - self.turn[slot]

    def _upload(self, name: str, value: Any) -> None:
        address = self.inputs[name]
        self._check(self.context.set_input_shape(name, value.shape), name)
        self._check(self.context.set_tensor_address(name, address), name)
        self._copy(address, value.ctypes.data, value.nbytes, host_to_device=True)

    def _bind_cache(self, slot: int, past: int) -> None:
        read, write = self.halves[slot][self.turn[slot]], self.halves[slot][1 - self.turn[slot]]
        for one in self.cache:
            shape = (1, one.heads, past, one.width)
            self._check(self.context.set_input_shape(one.past, shape), one.past)
            self._check(self.context.set_tensor_address(one.past, read), one.past)
            self._check(self.context.set_tensor_address(one.present, write), one.present)
            read += one.bytes(self.max_seq_len)
            write += one.bytes(self.max_seq_len)

    def _copy(self, target: int, source: int, size: int, *, host_to_device: bool) -> None:
        kinds = cudart.cudaMemcpyKind
        kind = kinds.cudaMemcpyHostToDevice if host_to_device else kinds.cudaMemcpyDeviceToHost
        call(cudart.cudaMemcpyAsync, target, source, size, kind, self.stream)

    def _check(self, ok: bool, what: str) -> None:  # noqa: FBT001
        if not ok:
            raise RuntimeError(f"TensorRT for RTX refuses {what}: {self.log.last}")


class Log(trt.ILogger):
    """TensorRT's warnings and errors into Triton's log; the last error is kept."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.last = "it does not say why"

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT."""
        if severity > trt.ILogger.WARNING:
            return
        if severity < trt.ILogger.WARNING:
            self.last = message.strip()
        print(f"TensorRT {severity.name.lower()}: {message.strip()}", flush=True)  # noqa: T201


def cache_tensors(engine: Any) -> tuple[CacheTensor, ...]:
    """The engine's KV cache, in its own order. Raises RuntimeError for an engine without one."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = []
    for past in names:
        if not past.startswith(PAST):
            continue
        present = PRESENT + past.removeprefix(PAST)
        if present not in names:
            raise RuntimeError(f"The engine has {past} and no {present}")
        _, heads, _, width = (int(size) for size in engine.get_tensor_shape(past))
        itemsize = math.ceil(engine.get_tensor_dtype(past).itemsize)
        found.append(CacheTensor(past, present, heads, width, itemsize))
    if not found:
        raise RuntimeError("The engine has no KV cache")
    return tuple(found)


def call(function: Any, *arguments: Any) -> Any:
    """Call CUDA; its result without the error code. Raises RuntimeError with CUDA's words."""
    code, *results = function(*arguments)
    if int(code):
        _, words = cudart.cudaGetErrorString(code)
        raise RuntimeError(f"CUDA: {words.decode()} ({function.__name__})")
    return results[0] if results else None
