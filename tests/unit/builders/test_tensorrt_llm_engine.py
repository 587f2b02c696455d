"""The engine tree of TensorRT-LLM: the checkpoint, and what it is bound to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorrt_llm_engine

from tests.support.zero_tensors import write_checkpoint

FP8 = {
    "model.layers.0.mlp.up_proj.weight": ("F8_E4M3", [4, 8]),
    "model.layers.0.mlp.up_proj.weight_scale": ("F32", []),
}


def link(
    folder: Path, algorithm: str | None, precision: str, **more: object
) -> tuple[int, dict[str, Any]]:
    made = write_checkpoint(folder / "c", FP8, algorithm)
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"engine": {"precision": precision}} | more))
    output = folder / "engine"
    output.mkdir()
    argv = ["--checkpoint", str(made), "--tokenizer", str(made), "--settings", str(settings)]
    code = tensorrt_llm_engine.main([*argv, "--output", str(output)])
    path = output / "engine.json"
    return code, json.loads(path.read_text()) if path.is_file() else {}


def test_tree_of_the_llm_api_is_the_checkpoint_its_mode_and_its_runtime(tmp_path: Path) -> None:
    code, document = link(tmp_path, "FP8", "fp8", runtime={"tensorrt-llm": "1.2.1"})
    assert code == 0
    assert document == {
        "schema_version": 1,
        "builder": "tensorrt-llm",
        "mode": "llmapi",
        "runtime": {"tensorrt-llm": "1.2.1"},
        "precision": {"asked": "fp8", "found": "fp8"},
    }
    assert (tmp_path / "engine" / "model.safetensors").is_file()


def test_runtime_of_an_image_nobody_knows_is_not_made_up(tmp_path: Path) -> None:
    assert link(tmp_path, "FP8", "fp8")[1]["runtime"] == {}


@pytest.mark.parametrize(
    ("algorithm", "precision", "message"),
    [(None, "fp8", "expected precision fp8, but quant_algo is None"),
     ("NVFP4", "fp8", "expected precision fp8, but quant_algo is NVFP4"),
     ("NVFP4", "nvfp4", "expected precision nvfp4, but most of its layers are fp8"),
     (None, "bf16", "expected precision bf16, but most of its layers are fp8")],
)  # fmt: skip
def test_checkpoint_of_another_precision_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str, precision: str, message: str
) -> None:
    assert link(tmp_path, algorithm, precision)[0] == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("version", ["1.3.0rc11", "1.4.0", "2.0.0"])
def test_release_without_engines_is_refused(version: str) -> None:
    with pytest.raises(tensorrt_llm_engine.EngineError, match="upstream removed trtllm-build"):
        tensorrt_llm_engine.check_release(version)


@pytest.mark.parametrize("version", ["1.2.1", "1.0.0", "0.17.0"])
def test_release_with_engines_is_used_with_a_warning(
    version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensorrt_llm_engine.check_release(version)
    assert "Warning: mode engine works with TensorRT-LLM 1.2.1 only" in capsys.readouterr().err
