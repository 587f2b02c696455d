"""What is refused before ModelOpt is loaded; what it makes: tests/e2e."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import modelopt_quantise
import pytest
import tensorrt_llm_cast

from tests.support.zero_tensors import write_checkpoint

Tensors = dict[str, tuple[str, list[int]]]
TENSORS: Tensors = {"model.layers.0.mlp.up_proj.weight": ("F16", [4, 8])}


def quantise(checkpoint: Path, precision: str = "fp8", texts: str = '{"article": "x"}\n') -> int:
    calibration = checkpoint.parent / "texts.jsonl"
    calibration.write_text(texts)
    argv = ["--checkpoint", str(checkpoint), "--output", str(checkpoint.parent / "out")]
    argv += ["--precision", precision, "--calibration", str(calibration)]
    return int(modelopt_quantise.main(argv))


def test_width_is_refused_with_code_3_before_torch_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "c", TENSORS, hidden_size=576, num_attention_heads=9)
    assert quantise(folder, "int4") == 3
    assert "hidden_size 576" in capsys.readouterr().err
    assert "torch" not in sys.modules


@pytest.mark.parametrize("method", ["gptq", "fp8", "modelopt"])
def test_quantised_checkpoint_is_refused_by_its_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    folder = write_checkpoint(tmp_path / "c", TENSORS, quantization_config={"quant_method": method})
    assert quantise(folder) == 3
    assert f"quantised already ({method})" in capsys.readouterr().err


def test_tensor_that_is_no_float_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors: Tensors = TENSORS | {"model.layers.1.qweight": ("U8", [4, 8])}
    folder = write_checkpoint(tmp_path / "c", tensors)
    assert quantise(folder) == 3
    assert "tensor model.layers.1.qweight is U8" in capsys.readouterr().err


@pytest.mark.parametrize("texts", ["", "no json\n", '{"text": "x"}\n', "[]\n"])
def test_calibration_file_without_texts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: str
) -> None:
    assert quantise(write_checkpoint(tmp_path / "c", TENSORS), texts=texts) == 3
    assert "texts.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(("dtype", "precision"), [("F16", "fp16"), ("BF16", "bf16")])
def test_checkpoint_of_the_right_type_is_linked_and_not_read(
    tmp_path: Path, dtype: str, precision: str
) -> None:
    folder = write_checkpoint(
        tmp_path / "c", {"model.layers.0.mlp.up_proj.weight": (dtype, [4, 8])}, torch_dtype="old"
    )
    (folder / "tokenizer.json").write_text("{}")
    output = tmp_path / "out"
    argv = ["--checkpoint", str(folder), "--output", str(output), "--precision", precision]
    # In a process of its own, since the tool's own end is part of it.
    script = tensorrt_llm_cast.__file__
    output.mkdir()
    subprocess.run([sys.executable, script, *argv], check=True, timeout=60)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (output / name).stat().st_ino == (folder / name).stat().st_ino
    config = json.loads((output / "config.json").read_text())
    assert config["torch_dtype"] == {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert config["hidden_size"] == 256


@pytest.mark.parametrize("precision", ["fp8", "fp16"])
def test_model_that_is_not_on_the_builders_list_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    folder = write_checkpoint(tmp_path / "c", TENSORS, model_type="gemma2")
    argv = ["--checkpoint", str(folder), "--output", str(tmp_path / "o"), "--precision", precision]
    argv += ["--architectures", "llama,qwen3"]
    if precision == "fp16":
        assert tensorrt_llm_cast.main(argv) == 3
    else:
        assert modelopt_quantise.main([*argv, "--calibration", str(tmp_path)]) == 3
    assert "'gemma2' model; supported architectures: llama, qwen3" in capsys.readouterr().err


def test_quantised_checkpoint_is_not_cast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "c", {"a.weight": ("F8_E4M3", [4, 8])})
    argv = ["--checkpoint", str(folder), "--output", str(tmp_path / "o"), "--precision", "fp16"]
    assert tensorrt_llm_cast.main(argv) == 3
    assert "tensor a.weight is F8_E4M3" in capsys.readouterr().err
