"""Headers of safetensors files; the library's own reading of ours: tests/e2e."""

import json
import struct
from pathlib import Path

import pytest
from safetensors_file import Planned, SafetensorsError, read_folder, read_header, write

TENSORS = [Planned("a", "F16", (2, 3)), Planned("b", "F32", (4,)), Planned("c", "BF16", (1,))]
DATA = [b"a" * 12, b"b" * 16, b"c" * 2]


def test_written_tensors_are_read_with_their_places(tmp_path: Path) -> None:
    write(tmp_path, TENSORS, DATA)
    found = read_folder(tmp_path)
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        "a": ("F16", (2, 3)), "b": ("F32", (4,)), "c": ("BF16", (1,)),
    }  # fmt: skip
    raw = (tmp_path / "model.safetensors").read_bytes()
    b = found["b"]
    assert raw[b.start : b.start + b.size] == b"b" * 16


def test_large_models_are_shards_with_an_index(tmp_path: Path) -> None:
    write(tmp_path, TENSORS, DATA, shard_bytes=20)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                     "model.safetensors.index.json"]  # fmt: skip
    assert set(read_folder(tmp_path)) == {"a", "b", "c"}


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, TENSORS, DATA, shard_bytes=20)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SafetensorsError, match="names model-00002-of-00002"):
        read_folder(tmp_path)


def test_index_that_the_files_contradict_is_refused(tmp_path: Path) -> None:
    write(tmp_path, TENSORS, DATA, shard_bytes=20)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["d"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(SafetensorsError, match="d is in no file"):
        read_folder(tmp_path)


@pytest.mark.parametrize("place", ["../x.safetensors", "/x.safetensors", ".."])
def test_index_that_leaves_the_folder_is_refused(tmp_path: Path, place: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(SafetensorsError, match="outside of the folder"):
        read_folder(tmp_path)


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_folder_without_an_index_and_one_file_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(SafetensorsError, match=r"no model\.safetensors and no"):
        read_folder(tmp_path)


def header(entry: object, data: bytes = b"") -> bytes:
    text = json.dumps(entry).encode()
    return struct.pack("<Q", len(text)) + text + data


DAMAGED = {
    "nothing": b"",
    "a long header": struct.pack("<Q", 1 << 60),
    "no JSON": struct.pack("<Q", 1) + b"{",
    "a list": header([]),
    "no offsets": header({"a": {"dtype": "F16", "shape": [1]}}, b"xx"),
    "too few bytes": header({"a": {"dtype": "F16", "shape": [9], "data_offsets": [0, 2]}}, b"xx"),
    "cut off": header({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}, b"xx"),
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_damaged_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(SafetensorsError):
        read_header(path)
