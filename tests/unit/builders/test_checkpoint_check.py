"""What a tool refuses of a Hugging Face folder before it works for minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from forge.builders import edge_llm
from forge.builders.tools import edge_llm_export, edge_llm_quantise, tensorrt_llm_convert
from forge.builders.tools.checkpoint_check import UnsupportedModelError, check_model
from tests.support.checkpoints import LLAMA

EDGE = edge_llm.ARCHITECTURES
# Families that tensorrt_edgellm 0.11 exports as a Llama with exit code 0.
TAKEN_FOR_LLAMAS = (
    *("gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "bloom", "falcon", "mamba", "olmo2"),
    *("deepseek_v2", "mixtral", "qwen2_moe", "phi3", "cohere", "granite"),
)


def folder(path: Path, config: Any) -> Path:
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def test_config_of_a_supported_model_is_returned(tmp_path: Path) -> None:
    assert check_model(folder(tmp_path, LLAMA), ["qwen2", "llama"]) == LLAMA


@pytest.mark.parametrize("kind", TAKEN_FOR_LLAMAS)
def test_family_that_is_not_on_the_list_is_refused_with_the_list(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"a '{kind}' model; supported .*qwen3"):
        check_model(folder(tmp_path, {"model_type": kind}), EDGE)


@pytest.mark.parametrize(
    "name", ["LlamaForSequenceClassification", "LlamaModel", "Qwen2ForRewardModel"]
)
def test_class_that_predicts_no_token_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"its class is '{name}'"):
        check_model(folder(tmp_path, LLAMA | {"architectures": [name]}), EDGE)


def test_quantised_weights_are_refused_unless_they_are_wanted(tmp_path: Path) -> None:
    made = folder(tmp_path, LLAMA | {"quantization_config": {"quant_method": "awq"}})
    with pytest.raises(UnsupportedModelError, match=r"quantised already \('awq'\)"):
        check_model(made, EDGE)
    assert check_model(made, EDGE, quantised=True)["model_type"] == "llama"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "has no model_type"),
        ('{"model_type": ["llama"]}', "supported architectures"),
        ('{"model_type": "llama", "quantization_config": 4}', "quantised already"),
    ],
)
def test_config_that_is_none_is_refused(tmp_path: Path, config: str, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        check_model(folder(tmp_path, config), EDGE)


def test_folder_without_a_config_is_refused_with_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"no readable config\.json"):
        check_model(tmp_path, EDGE)


class TestTools:
    """Each tool ends with 3 before its program runs."""

    @staticmethod
    def refused(tmp_path: Path, tool: Any, *options: str) -> None:
        marker = tmp_path / "ran"
        program = (sys.executable, "-c", f"open({str(marker)!r}, 'w')")
        argv = ["--checkpoint", str(tmp_path), *options]
        assert tool.main([*argv, "--architectures", "llama,qwen3", "--", *program]) == 3
        assert not marker.exists()

    @pytest.mark.parametrize("kind", ["gemma2", "mixtral"])
    def test_export_refuses_a_model_that_would_become_a_llama(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
    ) -> None:
        folder(tmp_path, {"model_type": kind})
        places = ("--export", str(tmp_path / "e"), "--record", str(tmp_path / "r"))
        self.refused(tmp_path, edge_llm_export, *places, "--quantisation", "fp16", "--sm", "87")
        assert f"Error: the checkpoint is a '{kind}' model" in capsys.readouterr().err

    def test_export_in_fp16_refuses_quantised_weights(self, tmp_path: Path) -> None:
        folder(tmp_path, LLAMA | {"quantization_config": {"quant_method": "gptq"}})
        places = ("--export", str(tmp_path / "e"), "--record", str(tmp_path / "r"))
        self.refused(tmp_path, edge_llm_export, *places, "--quantisation", "fp16", "--sm", "87")

    def test_quantisation_refuses_it(self, tmp_path: Path) -> None:
        folder(tmp_path, {"model_type": "gemma2"})
        options = ("--output", str(tmp_path / "o"), "--quantisation", "nvfp4", "--calibration", "c")
        self.refused(tmp_path, edge_llm_quantise, *options)

    def test_conversion_for_tensorrt_llm_refuses_it(self, tmp_path: Path) -> None:
        folder(tmp_path, {"model_type": "gemma2"})
        options = ("--output", str(tmp_path / "o"), "--algorithm", "FP8")
        texts = ("--calibration", "c", "--dataset", str(tmp_path / "d"))
        self.refused(tmp_path, tensorrt_llm_convert, *options, *texts)
