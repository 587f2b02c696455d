"""The export script's own checks; the export itself: tests/e2e."""

import json
from collections import Counter
from pathlib import Path

import pytest

from forge.builders.tools import to_onnx


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "config.json").write_text('{"rope_theta": 1, "rope_parameters": {"rope_theta": 1}}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def run(checkpoint: Path, settings: object) -> int:
    path = checkpoint.parent / "settings.json"
    path.write_text(json.dumps(settings))
    argv = ["--checkpoint", str(checkpoint), "--settings", str(path)]
    return to_onnx.main([*argv, "--output", str(checkpoint.parent / "out")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"precision": "int4"}, "only fp16"), ({}, "not the JSON of a step"), ([], "not the JSON")],
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
    assert f"holds no {name}" in capsys.readouterr().err


def test_rotary_base_that_transformers_4_would_not_find_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "config.json").write_text('{"rope_parameters": {"rope_theta": 100000.0}}')
    assert run(checkpoint, {"precision": "fp16"}) == 3
    assert "no rope_theta" in capsys.readouterr().err


def test_type_of_most_weights_is_the_precision_found() -> None:
    assert to_onnx.most_common(Counter({"FLOAT": 10, "FLOAT16": 1000})) == "FLOAT16"
    assert to_onnx.most_common(Counter()) == ""
    assert to_onnx.count([2, 3, 4]) == 24
