"""The export script's own checks; the export itself: tests/e2e."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import room
import to_onnx
from safetensors_file import Planned, write

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "rope_theta": 1.0,
    "rope_parameters": {"rope_theta": 1.0},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def run(checkpoint: Path, settings: object) -> int:
    path = checkpoint.parent / "settings.json"
    path.write_text(json.dumps(settings))
    argv = ["--checkpoint", str(checkpoint), "--settings", str(path)]
    return int(to_onnx.main([*argv, "--output", str(checkpoint.parent / "out")]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int4"}, "not supported: use fp16"),
        ({}, "not a valid settings file"),
        ([], "not a valid settings"),
    ],
)
def test_bad_settings_end_with_3_and_write_nothing(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], settings: object, message: str
) -> None:
    assert run(checkpoint, settings) == 3
    assert message in capsys.readouterr().err
    assert not (checkpoint.parent / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_folder_that_is_no_checkpoint_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (checkpoint / name).unlink()
    assert run(checkpoint, {"precision": "fp16"}) == 3
    assert f"has no {name}" in capsys.readouterr().err


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a base that transformers 4 would not find": (
        {"model_type": "llama", "rope_parameters": {"rope_theta": 100000.0}},
        "config.json has no rope_theta, which transformers 4 reads",
    ),
    "a scaling that it would not find": (
        {**CONFIG, "rope_parameters": {"rope_theta": 1.0, "rope_type": "linear", "factor": 2.0}},
        "config.json has no rope_scaling",
    ),
    "two bases": ({**CONFIG, "rope_theta": 2.0}, "contradicts itself"),
    "a family that was not compared": ({"model_type": "mamba"}, "does not support 'mamba' models"),
    "a scaling that the graph has as a constant": (
        {**CONFIG, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        "rope_type = 'dynamic'",
    ),
    "a field of no list": ({**CONFIG, "qk_clip": 1.0}, "qk_clip = 1.0"),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_config_that_the_graph_would_not_follow_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], config: object, message: str
) -> None:
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert run(checkpoint, {"precision": "fp16"}) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [(1e5, np.float32, "has the value 100000, which fp16 has not"),
     (float("nan"), np.float16, "w has NaN")],
)  # fmt: skip
def test_weight_that_fp16_cannot_hold_ends_with_3(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    value: float,
    dtype: type[np.floating[Any]],
    message: str,
) -> None:
    name = {"float32": "F32", "float16": "F16"}[np.dtype(dtype).name]
    write(checkpoint, [Planned("w", name, (1,))], [np.array([value], dtype).tobytes()])
    assert run(checkpoint, {"precision": "fp16"}) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "enough"), [("F16", 900 + 120), ("BF16", 900 + 200)], ids=["mapped", "cast"]
)
def test_memory_is_asked_for_a_copy_only_where_weights_are_cast(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, enough: int
) -> None:
    write(checkpoint, [Planned("w", dtype, (1,))], [bytes(2)])
    monkeypatch.setattr(room, "weights_mib", lambda _: 100)
    monkeypatch.setattr(room, "available_memory", lambda: room.Available(enough))
    to_onnx.check_room(checkpoint, checkpoint.parent / "out")
    monkeypatch.setattr(room, "available_memory", lambda: room.Available(enough - 1))
    with pytest.raises(room.NoRoomError, match="exporting 100 MiB"):
        to_onnx.check_room(checkpoint, checkpoint.parent / "out")


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_export_that_the_machine_has_no_room_for_ends_with_4_before_it_begins(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    write(checkpoint, [Planned("w", "F16", (1,))], [bytes(2)])
    if what == "memory":
        monkeypatch.setattr(room, "available_memory", lambda: room.Available(1))
    else:
        monkeypatch.setattr(room, "available_memory", lambda: None)
        monkeypatch.setattr(room, "weights_mib", lambda _: 10**12)
    assert run(checkpoint, {"precision": "fp16"}) == 4
    assert f"of {what}, but" in capsys.readouterr().err
    assert not (checkpoint.parent / "out").exists()


def test_type_of_most_weights_is_the_precision_found() -> None:
    assert to_onnx.most_common(Counter({"FLOAT": 10, "FLOAT16": 1000})) == "FLOAT16"
    assert to_onnx.most_common(Counter()) == ""
    assert to_onnx.count([2, 3, 4]) == 24
