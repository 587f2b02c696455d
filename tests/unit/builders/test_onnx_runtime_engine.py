"""The pure parts of the script of onnx-runtime; the graph itself: tests/e2e."""

import json
from pathlib import Path
from typing import Any

import onnx_runtime_engine as tool
import pytest

from forge.builders import onnx_runtime

RUNTIME = {"onnxruntime-gpu": "1.26.0"}
GOOD: dict[str, Any] = {"engine": {"precision": "fp32"}, "runtime": RUNTIME}
BAD = {
    "precision": (GOOD | {"engine": {"precision": "fp8"}}, "engine.precision 'fp8' is not"),
    "no engine": ({"runtime": RUNTIME}, "not a valid settings file"),
    "no runtime": ({"engine": {"precision": "fp32"}}, "not a valid settings file"),
    "runtime as text": (GOOD | {"runtime": "1.26.0"}, "not a valid settings file"),
    "a list": ([1], "not a valid settings file"),
}


def run(folder: Path, settings: object) -> int:
    (folder / "settings.json").write_text(json.dumps(settings))
    argv = ["--checkpoint", str(folder), "--settings", str(folder / "settings.json")]
    code: int = tool.main([*argv, "--output", str(folder / "out")])
    return code


def test_settings_are_those_of_the_step(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(GOOD))
    assert tool.read_settings(path) == tool.Settings("fp32", RUNTIME)


def test_every_precision_of_the_builder_is_known_to_the_script() -> None:
    assert tuple(tool.PRECISIONS) == onnx_runtime.PRECISIONS


@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD)
def test_bad_settings_end_with_3_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: object, message: str
) -> None:
    assert run(tmp_path, values) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["model.onnx", "config.json", "tokenizer.json"])
def test_checkpoint_that_lacks_a_file_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    for name in {"model.onnx", "config.json", "tokenizer.json"} - {missing}:
        (tmp_path / name).write_text("{}")
    assert run(tmp_path, GOOD) == 3
    assert f"has no {missing}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
