"""The header check of the OpenVINO compile script, on hand-made GGUF files."""

import io
import json
import struct
from pathlib import Path

import pytest

from forge.builders.tools.openvino_compile import (
    CheckpointError,
    asked_precision,
    find_weights,
    main,
    read_gguf,
)
from tests.support.gguf import gguf


def read(data: bytes) -> object:
    return read_gguf(io.BytesIO(data), len(data), "tiny.gguf")


def test_read_gguf_finds_architecture_size_and_precision() -> None:
    data = gguf()
    found = read_gguf(io.BytesIO(data), len(data), "tiny.gguf")
    assert (found.architecture, found.name) == ("llama", "Tiny")
    assert (found.tensors, found.parameters, found.precision) == (1, 64, "Q4_1")


def test_read_gguf_refuses_a_file_cut_anywhere() -> None:
    data = gguf()
    for length in range(len(data)):
        with pytest.raises(CheckpointError, match=r"truncated|does not begin"):
            read(data[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04" + gguf()[4:], "does not begin with 'GGUF'"),
        (gguf(version=1), "version 1"),
        (gguf(kind=99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "claims to have 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 2**62), "bytes in one string"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "holds no tensors"),
    ],
)
def test_read_gguf_refuses_a_damaged_header(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(data)


def test_find_weights_refuses_two_files(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"2 GGUF files, not one: a.gguf, b.gguf"):
        find_weights(tmp_path)


def test_find_weights_says_that_hugging_face_is_not_supported_yet(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not supported yet by this builder"):
        find_weights(tmp_path)


def test_find_weights_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no .gguf file"):
        find_weights(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"engine": 3}'])
def test_asked_precision_refuses_what_is_no_settings_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"settings.json is not"):
        asked_precision(path)


@pytest.mark.parametrize(
    ("data", "precision", "message"),
    [
        (gguf(architecture="mamba"), "as-is", "'mamba' model"),
        (gguf(), "fp16", "quantised already (Q4_1)"),
        (gguf()[:-8], "as-is", "truncated"),
    ],
)
def test_main_ends_with_3_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    precision: str,
    message: str,
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/tiny.gguf").write_bytes(data)
    (tmp_path / "settings.json").write_text(json.dumps({"engine": {"precision": precision}}))
    argv = ["--checkpoint", str(tmp_path / "in"), "--settings", str(tmp_path / "settings.json")]
    assert main([*argv, "--output", str(tmp_path / "out")]) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
