"""Headers of safetensors files; the real package is the reference in tests/e2e."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.checkpoint.safetensors import read_safetensors
from forge.errors import ConfigurationError
from tests.support.checkpoints import safetensors


def written(folder: Path, header: Any, data: int = 8, *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    size = struct.pack("<Q", len(text) if length is None else length)
    path.write_bytes(size + text + bytes(data))
    return path


def tensor(begin: int, end: int, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_are_named_with_type_and_shape(tmp_path: Path) -> None:
    path = written(tmp_path, {"__metadata__": {"format": "pt"}, "a": tensor(0, 8)})
    (found,) = read_safetensors(path, "shard")
    assert (found.name, found.dtype, found.shape) == ("a", "F32", (2,))
    assert (found.elements, found.file) == (2, "shard")


def test_tensors_come_in_the_order_of_their_data(tmp_path: Path) -> None:
    path = written(tmp_path, {"b": tensor(8, 16), "a": tensor(0, 8)}, data=16)
    assert [one.name for one in read_safetensors(path, "x")] == ["a", "b"]


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("F4", [4], 2), ("F8_E4M3", [3], 3), ("BF16", [], 2), ("I64", [0, 5], 0), ("C64", [1], 8)],
)
def test_size_follows_from_type_and_shape(
    tmp_path: Path, dtype: str, shape: list[int], size: int
) -> None:
    path = written(tmp_path, {"a": tensor(0, size, shape, dtype)}, data=size)
    assert len(read_safetensors(path, "x")) == 1


WRONG: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{x}", 8, "its header is not valid"),
    "not UTF-8": (b"{\xff}", 8, "its header is not valid"),
    "blanks first": (b' {"a": 1}', 8, "does not start with '{'"),
    "a nest of lists": (b'{"a":' + b"[" * 100_000, 8, "its header is not valid"),
    "a number without an end": (b'{"a":' + b"9" * 5000 + b"}", 8, "its header is not valid"),
    "a tensor twice": (b'{"a": {}, "a": {}}', 8, "the key 'a' is there twice"),
    "metadata that are no map": ({"__metadata__": [1], "a": tensor(0, 8)}, 8, "map of strings"),
    "metadata of numbers": ({"__metadata__": {"x": 1}}, 0, "map of strings"),
    "a tensor that is none": ({"a": 3}, 8, "has no dtype, shape or data_offsets"),
    "three offsets": ({"a": tensor(0, 8) | {"data_offsets": [0, 4, 8]}}, 8, "has no dtype"),
    "a type nobody knows": ({"a": tensor(0, 8, dtype="F33")}, 8, "unknown type 'F33'"),
    "a type that is a list": ({"a": tensor(0, 8, dtype=["F32"])}, 8, "unknown type"),
    "a shape of texts": ({"a": tensor(0, 8, shape=["2"])}, 8, "not whole numbers"),
    "a negative shape": ({"a": tensor(0, 8, shape=[-2])}, 8, "not whole numbers"),
    "a shape of Booleans": ({"a": tensor(0, 4, shape=[True])}, 4, "not whole numbers"),
    "another size": ({"a": tensor(0, 4)}, 4, "bytes that its shape requires"),
    "a gap": ({"a": tensor(0, 8), "b": tensor(9, 17)}, 17, "tensor 'b' does not have"),
    "an overlap": ({"a": tensor(0, 8), "b": tensor(4, 12)}, 12, "tensor 'b' does not have"),
    "data cut off": ({"a": tensor(0, 8)}, 7, "its tensors end at"),
    "data behind": ({"a": tensor(0, 8)}, 9, "its tensors end at"),
    "an end before the start": ({"a": tensor(8, 0)}, 8, "bytes that its shape requires"),
}


@pytest.mark.parametrize(("header", "data", "says"), WRONG.values(), ids=WRONG)
def test_damaged_file_is_refused_in_one_sentence(
    tmp_path: Path, header: Any, data: int, says: str
) -> None:
    path = written(tmp_path, header, data)
    with pytest.raises(
        ConfigurationError, match=r"shard is not a valid safetensors file"
    ) as caught:
        read_safetensors(path, "shard")
    assert says in caught.value.why


@pytest.mark.parametrize("length", [2**63, 1000, 0])
def test_length_that_is_not_the_headers_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ConfigurationError):
        read_safetensors(written(tmp_path, {"a": tensor(0, 8)}, length=length), "x")


@pytest.mark.parametrize("size", range(9))
def test_file_of_a_few_bytes_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(size))
    with pytest.raises(ConfigurationError):
        read_safetensors(path, "x")


def test_header_of_more_than_100_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)
    with pytest.raises(ConfigurationError) as caught:
        read_safetensors(path, "x")
    assert "more than 100000000" in caught.value.why


@settings(max_examples=150)
@given(st.data())
def test_changed_bytes_are_read_or_refused_and_never_a_traceback(data: st.DataObject) -> None:
    import tempfile

    made = bytearray(safetensors({"a": "F32", "model.b": "BF16"}))
    for _ in range(data.draw(st.integers(1, 4))):
        made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(made)))
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        for case in (bytes(made), bytes(made[:cut])):
            path.write_bytes(case)
            try:
                found = read_safetensors(path, "x")
            except ConfigurationError:
                continue
            assert sum(one.elements for one in found) <= len(case)
