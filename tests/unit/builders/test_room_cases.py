"""What tools ask for that depends on their input: linked or copied, cast or not, its types."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import edge_llm_engine
import modelopt_quantise
import onnx_runtime_engine
import pytest
import room
import tensorrt_llm_cast
import to_huggingface
import torch_receipt

from tests.support.zero_tensors import write_checkpoint

MIB = room.MIB


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """MiB of memory and of disk that were asked for."""
    found: dict[str, int] = {}
    monkeypatch.setattr(room, "require_memory", lambda mib, _what: found.update(memory=mib))
    monkeypatch.setattr(room, "require_disk", lambda _to, mib, _what: found.update(disk=mib))
    return found


def test_linked_weights_take_no_disk_and_copied_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, int]
) -> None:
    (tmp_path / "model.onnx.data").write_bytes(bytes(3 * MIB))
    edge_llm_engine.check_room(tmp_path, tmp_path / "out", compiled=False)
    assert asked == {"memory": 32, "disk": 64}
    monkeypatch.setattr(room, "links", lambda _source, _output: False)
    edge_llm_engine.check_room(tmp_path, tmp_path / "out", compiled=False)
    assert asked == {"memory": 32, "disk": 64 + 3}
    edge_llm_engine.check_room(tmp_path, tmp_path / "out", compiled=True)
    assert asked == {"memory": 32 + 4 * 3, "disk": 64 + 3}


def test_gguf_file_is_counted_in_16_bits(tmp_path: Path, asked: dict[str, int]) -> None:
    tensors = [SimpleNamespace(n_elements=5 * MIB), SimpleNamespace(n_elements=MIB)]
    to_huggingface.check_room(tensors, tmp_path)
    need = to_huggingface.ROOM["GGUF"]
    assert asked == {"memory": need.memory_mib + 12 * need.memory, "disk": 64 + 12}


def test_files_that_have_the_type_already_are_not_counted(
    tmp_path: Path, asked: dict[str, int]
) -> None:
    for name, size in (("a", 4), ("b", 2), ("c", 1)):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(size * MIB))
    need = tensorrt_llm_cast.ROOM
    tensorrt_llm_cast.check_room(tmp_path, {"b.safetensors", "c.safetensors"}, tmp_path / "out")
    assert asked == {"memory": need.memory_mib + 2 * need.memory, "disk": 64 + 3}
    tensorrt_llm_cast.check_room(tmp_path, set(), tmp_path / "out")
    assert asked == {"memory": need.memory_mib, "disk": 64}


def test_largest_weight_of_a_graph_is_counted(asked: dict[str, int]) -> None:
    graph = SimpleNamespace(
        initializer=[SimpleNamespace(dims=[2 * MIB, 2]), SimpleNamespace(dims=[])]
    )
    onnx_runtime_engine.check_largest(graph, "fp32")
    assert asked == {"memory": onnx_runtime_engine.ROOM["fp32"].memory_mib + 3 * 8}


@pytest.mark.parametrize(
    ("dtype", "bits"), [("F16", "16 bits"), ("BF16", "16 bits"), ("F8_E4M3", "8 bits")]
)
def test_quantised_weights_are_counted_as_they_are_computed(
    tmp_path: Path, dtype: str, bits: str
) -> None:
    made = write_checkpoint(tmp_path / "in", {"model.layers.0.up.weight": (dtype, [4, 8])})
    assert torch_receipt.need_of(made) == torch_receipt.ROOM[bits]


def test_machine_without_memory_for_float32_quantises_in_16_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "weights_mib", lambda _folder: 1000)
    whole, half = (modelopt_quantise.ROOM[name] for name in ("float32", "16 bits"))
    for need, available in ((whole, 4700), (half, 4699)):
        monkeypatch.setattr(room, "available_memory", lambda have=available: room.Available(have))
        taken: list[room.Room] = []
        monkeypatch.setattr(room, "require", lambda one, *_more, to=taken: to.append(one))
        modelopt_quantise.check_room(tmp_path, tmp_path / "out")
        assert taken == [need]
