"""The pure parts of the TensorRT for RTX compile script; the compiler itself: tests/e2e."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forge.builders import tensorrt_rtx
from forge.builders.tools import tensorrt_rtx_compile as tool

SETTINGS = tool.Settings("fp16", "12.0", max_batch_size=4, max_input_len=2048, max_seq_len=4096)


def step_settings(**engine: object) -> dict[str, Any]:
    values: dict[str, object] = {
        "precision": "fp16",
        "max_batch_size": 4,
        "max_input_len": 2048,
        "max_seq_len": 4096,
    }
    return {"engine": values | engine, "hardware": {"compute_capability": "12.0"}}


def test_settings_are_those_of_the_step(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(step_settings()))
    assert tool.read_settings(path) == SETTINGS


BAD = {
    "precision": (step_settings(precision="fp8"), "engine.precision 'fp8' is not supported"),
    "no room": (step_settings(max_seq_len=2048), "no space for a response"),
    "no engine": ({}, "not a valid settings file"),
    "not a number": (step_settings(max_seq_len="long"), "not a valid settings file"),
}


@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD)
def test_bad_settings_end_with_3_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], message: str
) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(values))
    argv = ["--checkpoint", str(tmp_path), "--settings", str(tmp_path / "settings.json")]
    assert tool.main([*argv, "--output", str(tmp_path / "out")]) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checkpoint_without_onnx_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(step_settings()))
    argv = ["--checkpoint", str(tmp_path), "--settings", str(tmp_path / "settings.json")]
    assert tool.main([*argv, "--output", str(tmp_path / "out")]) == 3
    assert "has no model.onnx" in capsys.readouterr().err


SHAPES = {
    "input_ids": ((-1, -1), ((1, 1), (1, 1), (4, 512))),
    "position_ids": ((-1, -1), ((1, 1), (1, 1), (4, 512))),
    # The KV cache's tokens and the new ones; what is longer than a sequence never comes.
    "attention_mask": ((-1, -1), ((1, 1), (1, 2048), (4, 4607))),
    "past_key_values.0.key": ((-1, 3, -1, 64), ((1, 3, 0, 64), (1, 3, 2047, 64), (4, 3, 4095, 64))),
}


@pytest.mark.parametrize(("name", "dims", "expected"), [(n, *v) for n, v in SHAPES.items()])
def test_shapes_go_from_an_empty_cache_to_a_full_one(
    name: str, dims: tuple[int, ...], expected: tuple[tuple[int, ...], ...]
) -> None:
    assert tool.lengths(SETTINGS).shape(name, dims) == expected


def test_prompt_piece_is_no_longer_than_the_longest_prompt() -> None:
    short = tool.Settings("fp16", "12.0", max_batch_size=1, max_input_len=64, max_seq_len=65)
    assert tool.lengths(short).new == (1, 1, 64)
    assert tool.lengths(short).past == (0, 32, 64)


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("pixel_values", (1, 3, 224, 224)),
        ("input_ids", (1,)),
        ("past_key_values.0.key", (1, -1, -1, 8)),
    ],
)
def test_graph_with_another_input_is_refused(name: str, dims: tuple[int, ...]) -> None:
    with pytest.raises(tool.CheckpointError, match=r"unexpected input|a dynamic dimension other"):
        tool.lengths(SETTINGS).shape(name, dims)


def test_weights_of_the_precision_asked_for_are_believed() -> None:
    tool.check_precision(Counter({"HALF": 1000, "FLOAT": 64, "INT64": 9}), "fp16")


@pytest.mark.parametrize("weights", [{"FLOAT": 1000, "HALF": 64}, {}])
def test_weights_of_another_precision_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(tool.CheckpointError, match="is fp16, but the network"):
        tool.check_precision(Counter(weights), "fp16")


def test_capability_is_looked_up_in_the_installed_tensorrt() -> None:
    class Trt:
        __version__ = "1.7.1.116"

        class ComputeCapability:
            __members__ = {"NONE": 0, "CURRENT": 1, "SM89": 2, "SM120": 3}  # noqa: RUF012

    assert tool.capability("12.0", Trt) == 3
    with pytest.raises(tool.CheckpointError, match=r"11.0; it supports 8.9, 12.0"):
        tool.capability("11.0", Trt)


def test_digest_of_one_file_is_its_own_and_of_several_that_of_their_lines(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    one = hashlib.sha256(b"graph").hexdigest()
    assert tool.digest(tmp_path) == one
    (tmp_path / "model.onnx_data").write_bytes(b"weights")
    two = hashlib.sha256(b"weights").hexdigest()
    lines = f"{one}  model.onnx\n{two}  model.onnx_data\n"
    assert tool.digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_precisions_of_the_builder_are_those_of_its_tool() -> None:
    assert tuple(tool.PRECISIONS) == tensorrt_rtx.PRECISIONS
