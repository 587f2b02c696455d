"""What the OpenVINO compile script refuses before it compiles, on hand-made GGUF files."""

from __future__ import annotations

import json
from pathlib import Path

import openvino_compile
import pytest
from openvino_compile import CheckpointError, find_weights, main

from tests.support.gguf import gguf
from tests.support.gguf_headers import header


def test_find_weights_returns_all_parts(tmp_path: Path) -> None:
    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_weights(tmp_path)] == names


def test_find_weights_of_a_hugging_face_folder_names_the_other_precisions(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"set engine.precision to fp16, int8 or int4"):
        find_weights(tmp_path)


def test_find_weights_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no .gguf file"):
        find_weights(tmp_path)


@pytest.mark.parametrize(
    ("data", "precision", "message"),
    [
        (gguf(architecture="mamba"), "as-is", "'mamba' model"),
        (gguf(), "fp16", "already quantised (Q4_1)"),
        (gguf(), "as-is", "would make another model of tiny.gguf"),
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


def test_refusal_names_the_way_over_hugging_face() -> None:
    with pytest.raises(CheckpointError) as caught:
        openvino_compile.check_header(header(llama__rope__scaling__type="linear"))
    assert "rope.scaling.type (linear)" in str(caught.value)
    assert "→ set engine.precision to fp16, int8 or int4" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "into"),
    [("Q4_1", "Q8_0"), ("Q5_K", "Q8_0"), ("BF16", "F16"), ("Q4_0", "Q4_0"), ("Q6_K", "Q6_K")],
)
def test_matrix_gets_a_type_that_the_reader_keeps(kind: str, into: str) -> None:
    kinds = {openvino_compile.kind_of(one) for one in header(kind=kind).tensors}
    assert kinds == {into, "F32"}  # F32: the norms


def test_every_end_token_is_in_the_generation_config() -> None:
    two = header(tokenizer__ggml__eot_token_id=9, tokenizer__ggml__padding_token_id=0)
    config = openvino_compile.generation_config(two, [2, 9])
    assert config == {"eos_token_id": [2, 9], "pad_token_id": 0}
