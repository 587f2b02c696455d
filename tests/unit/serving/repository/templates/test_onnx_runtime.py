"""The session of onnx-runtime, over a stand-in for ONNX Runtime that works on the same memory.

The stand-in's graph has one layer with one head: its cache is the tokens themselves, and the logits
of a token are the sums of all tokens up to it. A block that is mixed up gives another sum.
"""

from __future__ import annotations

import ctypes
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.templates import load

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CACHE = "past_key_values.0.key"
VOCABULARY = 3


@dataclass
class Value:
    data: np.ndarray
    device: str

    def data_ptr(self) -> int:
        return self.data.ctypes.data


@dataclass(frozen=True)
class Place:
    """A bound buffer."""

    device: str
    shape: list[int]
    address: int

    def view(self) -> np.ndarray:
        count = int(np.prod(self.shape))
        memory = (ctypes.c_float * count).from_address(self.address)
        return np.ctypeslib.as_array(memory).reshape(self.shape)


@dataclass
class Binding:
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Place] = field(default_factory=dict)

    def bind_cpu_input(self, name: str, value: np.ndarray) -> None:
        self.inputs[name] = value

    def bind_input(self, name: str, device: str, _: int, dtype: Any, shape: Any, at: int) -> None:
        assert dtype == np.float32
        self.inputs[name] = Place(device, list(shape), at)

    def bind_output(self, name: str, device: str, _: int, dtype: Any, shape: Any, at: int) -> None:
        assert dtype == np.float32
        self.outputs[name] = Place(device, list(shape), at)


def declared(name: str, kind: str, *shape: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(name=name, type=f"tensor({kind})", shape=list(shape))


@dataclass
class Graph:
    """onnxruntime.InferenceSession."""

    used: list[str]
    devices: set[str] = field(default_factory=set)

    def get_inputs(self) -> list[Any]:
        tokens = [declared(name, "int64", "batch", "n") for name in ("input_ids", "attention_mask")]
        return [*tokens, declared(CACHE, "float", "batch", 1, "past", 1)]

    def get_outputs(self) -> list[Any]:
        cache = declared("present.0.key", "float", "batch", 1, "all", 1)
        return [declared("logits", "float", "batch", "n", VOCABULARY), cache]

    def get_providers(self) -> list[str]:
        return self.used

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        tokens, past = binding.inputs["input_ids"][0], binding.inputs[CACHE]
        assert set(binding.inputs) == {"input_ids", "attention_mask", CACHE}
        assert binding.inputs["attention_mask"].shape == (1, past.shape[2] + len(tokens))
        whole = [*(past.view().reshape(-1) if past.shape[2] else ()), *map(float, tokens)]
        present = binding.outputs["present.0.key"]
        assert present.address != past.address, "it writes over what it reads"
        self.devices |= {past.device, present.device}
        present.view()[0, 0, :, 0] = whole
        sums = np.cumsum(whole)[-len(tokens) :]
        binding.outputs["logits"].view()[0] = sums[:, None] * np.arange(1, VOCABULARY + 1)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The stand-in; `available` are its providers, `used` those that a session gets."""
    fake = types.SimpleNamespace(available=[CUDA, CPU], used=None, made=[], preloaded=[])

    def session(_path: str, providers: list[Any], enable_fallback: int) -> Graph:
        fake.made.append((providers, enable_fallback))
        return Graph(fake.used or [providers[0][0], CPU])

    def value(shape: list[int], dtype: Any, device: str, _: int) -> Value:
        return Value(np.full(shape, 255, dtype), device)

    def preload_dlls(directory: str) -> None:
        fake.preloaded.append(directory)

    module = types.ModuleType("onnxruntime")
    values = {
        "InferenceSession": session,
        "OrtValue": types.SimpleNamespace(ortvalue_from_shape_and_type=value),
        "get_available_providers": lambda: fake.available,
        "preload_dlls": preload_dlls,
    }
    for name, one in values.items():
        setattr(module, name, one)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    fake.template = load("onnx-runtime", "session")
    return fake


def limits(**changes: Any) -> Any:
    known = {"max_batch_size": 2, "max_seq_len": 8, "kv_cache_mib": None, "execution_provider": CPU}
    return types.SimpleNamespace(**(known | changes))


def make(runtime: Any, **changes: Any) -> Any:
    return runtime.template.Session(Path("engine"), limits(**changes))


def test_logits_are_of_all_tokens_that_the_cache_holds(runtime: Any) -> None:
    session = make(runtime)
    assert session.run(0, [1, 2], 0).tolist() == [3, 6, 9]
    assert session.run(0, [4], 2).tolist() == [7, 14, 21]
    assert session.run_all(0, [5, 6], 3)[:, 0].tolist() == [12, 18]


def test_sequences_that_take_turns_never_share_a_cache(runtime: Any) -> None:
    session = make(runtime, max_batch_size=3)
    sums = {0: 0, 1: 0, 2: 0}
    for past in range(6):
        for slot in (2, 0, 1):
            token = 10 * slot + past + 1
            sums[slot] += token
            assert session.run(slot, [token], past)[0] == sums[slot]


def test_slot_begins_again_from_an_empty_cache(runtime: Any) -> None:
    session = make(runtime)
    session.run(0, [9, 9, 9], 0)
    assert session.run(0, [1], 0)[0] == 1


def test_sequence_as_long_as_allowed_is_computed_and_a_longer_one_is_refused(runtime: Any) -> None:
    session = make(runtime)
    session.run(0, [1] * 7, 0)
    assert session.run(0, [1], 7)[0] == 8
    with pytest.raises(RuntimeError, match="1 tokens cannot be added to 8 of 8"):
        session.run(0, [1], 8)
    with pytest.raises(RuntimeError, match="0 tokens cannot be added"):
        session.run(0, [], 0)


def test_memory_is_one_block_for_each_sequence_and_a_spare_one(runtime: Any) -> None:
    session = make(runtime, max_batch_size=3, max_seq_len=2**16)
    assert [len(block.data) for block in session.blocks] == [4 * 2**16] * 4
    make(runtime, max_batch_size=3, max_seq_len=2**16, kv_cache_mib=1)
    with pytest.raises(RuntimeError, match=r"require 2 MiB, serving\.kv_cache_mib is 1"):
        make(runtime, max_batch_size=3, max_seq_len=2**16 + 1, kv_cache_mib=1)


def test_session_warms_up_with_the_longest_piece(runtime: Any) -> None:
    make(runtime).warm_up()
    assert make(runtime, max_seq_len=1000).prompt_piece == 128


def test_gpu_keeps_the_cache_and_falls_back_to_nothing(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.template.cuda_driver, "require", lambda: None)
    session = make(runtime, execution_provider=CUDA)
    session.run(0, [1], 0)
    assert session.session.devices == {"cuda"}
    assert {block.device for block in session.blocks} == {"cuda"}
    assert runtime.made == [([(CUDA, {"device_id": "0", "use_tf32": "0"})], 0)]
    assert runtime.preloaded == [""]  # the wheels of its own environment


@pytest.mark.parametrize("state", [{"used": [CPU]}, {"available": [CPU]}])
def test_runtime_that_would_compute_on_the_cpu_instead_is_refused(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]
) -> None:
    monkeypatch.setattr(runtime.template.cuda_driver, "require", lambda: None)
    vars(runtime).update(state)
    with pytest.raises(RuntimeError, match=CUDA):
        make(runtime, execution_provider=CUDA)


def test_machine_without_a_driver_is_refused_before_the_graph_is_read(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.template.cuda_driver.require, "__defaults__", ("libno.so.1",))
    with pytest.raises(RuntimeError, match="requires an NVIDIA GPU, and no driver is installed"):
        make(runtime, execution_provider=CUDA)
    assert runtime.made == []


@pytest.mark.parametrize(
    ("init", "count", "error", "said"),
    [
        (100, 0, 0, "cuInit: error 100"),  # CUDA_ERROR_NO_DEVICE
        (0, 0, 0, "0 devices"),
        (0, 1, 3, "cuDeviceGetCount: error 3"),
        (0, 1, 0, ""),
    ],
)
def test_driver_without_a_gpu_is_refused(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, init: int, count: int, error: int, said: str
) -> None:
    def get_count(target: Any) -> int:
        target._obj.value = count
        return error

    driver = types.SimpleNamespace(cuInit=lambda _: init, cuDeviceGetCount=get_count)
    module = runtime.template.cuda_driver
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: driver)
    if not said:
        module.require()
        return
    with pytest.raises(RuntimeError, match=said):
        module.require()
