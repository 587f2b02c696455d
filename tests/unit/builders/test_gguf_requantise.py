"""Writing a GGUF file again; values are compared in the heavy tests, which have package gguf."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf_header
import gguf_requantise
import pytest
from gguf_header import GgufTensor

from tests.support.gguf import gguf


def rewrite(folder: Path, data: bytes) -> gguf_header.GgufHeader:
    """Write a file again with all tensors as they are; return the header of the new one."""
    (folder / "old.gguf").write_bytes(data)
    old = gguf_header.read(folder / "old.gguf")
    target = folder / "new.gguf"
    gguf_requantise.requantise(old, folder, target, lambda one: one.kind, file_type=7)
    return gguf_header.read(target)


def test_metadata_and_tensors_are_kept_byte_for_byte(tmp_path: Path) -> None:
    data = gguf()[:-40] + bytes(range(40))
    new = rewrite(tmp_path, data)
    old = gguf_header.read(tmp_path / "old.gguf")
    assert dict(new.values) == {**old.values, "general.file_type": 7}
    assert [(one.name, one.shape, one.kind) for one in new.tensors] == [
        (one.name, one.shape, one.kind) for one in old.tensors
    ]
    written = (tmp_path / "new.gguf").read_bytes()
    assert written[new.data_starts[0] :][:40] == bytes(range(40))


def test_parts_of_a_split_file_become_one(tmp_path: Path) -> None:
    def part(number: int) -> bytes:
        def entry(key: str, value: int) -> bytes:
            name = key.encode()
            return struct.pack("<Q", len(name)) + name + struct.pack("<IH", 2, value)

        entries = [entry("split.no", number), entry("split.count", 2)]
        name = f"t{number}".encode()
        table = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 8, 0, 0)
        head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + table
        return head + bytes(-len(head) % 32) + struct.pack("<8f", *[number] * 8)

    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(part(number))
    old = gguf_header.read_parts([tmp_path / name for name in names])
    target = tmp_path / "whole.gguf"
    gguf_requantise.requantise(old, tmp_path, target, lambda one: one.kind, file_type=7)
    new = gguf_header.read(target)
    assert dict(new.values) == {"general.file_type": 7}  # split.* says nothing of one file
    data = target.read_bytes()[new.data_starts[0] :]
    values = [struct.unpack_from("<8f", data, one.offset) for one in new.tensors]
    assert values == [(0.0,) * 8, (1.0,) * 8]


@pytest.mark.parametrize(
    ("kind", "shape", "into"),
    [
        ("Q4_1", (64, 2), "Q8_0"),
        ("Q5_K", (256, 2), "Q8_0"),
        ("BF16", (64, 2), "F16"),
        ("F32", (64, 2), "F16"),
        ("BF16", (64,), "F32"),
        ("F16", (64,), "F32"),
    ],
)
def test_type_that_a_tensor_gets(kind: str, shape: tuple[int, ...], into: str) -> None:
    one = GgufTensor("t", shape, kind, 0, 0, "f")
    assert gguf_requantise.target_kind(one) == into
