"""The commands NVIDIA's tools are given: what they would refuse is refused while planning."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.builders import flags
from forge.builders.flags import check_argv, load
from forge.errors import ConfigurationError

TOOLS = sorted(path.stem for path in Path(flags.__file__).parent.glob("*.yaml"))
TRTLLM = ["--checkpoint_dir", "c", "--output_dir", "o"]
QUANTISE = ["llm", "--model_dir", "m", "--output_dir", "o"]


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_readable_and_its_file_named_after_it(name: str) -> None:
    assert load(name).tool in {name, f"{name}.py"}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("trtllm-build", [*TRTLLM, "--max_batch_size", "8", "--fast_build"]),
        ("trtllm-build", [*TRTLLM, "--max_batch_size=8"]),
        ("tensorrt-edgellm-export", ["${inputs.a}", "${outputs.b}", "--target-sm", "110"]),
        ("tensorrt-edgellm-quantize", [*QUANTISE, "--quantization", "nvfp4"]),
        ("llm_build", ["--onnxDir", "a", "--engineDir", "b", "--maxInputLen", "2048"]),
    ],
)
def test_legal_command_passes(tool: str, arguments: list[str]) -> None:
    check_argv(load(tool), arguments)


@pytest.mark.parametrize(
    ("tool", "arguments", "why", "hint"),
    [
        ("trtllm-build", [*TRTLLM, "--max-seq-len", "1"], "option --max-seq-len", "--max_seq_len"),
        ("trtllm-build", [*TRTLLM, "--dtype", "float16"], "unknown option --dtype", ""),
        ("trtllm-build", [*TRTLLM, "--tp_size", "2"], "unknown option --tp_size", ""),
        ("trtllm-build", [*TRTLLM, "--max_output_len", "9"], "unknown option --max_output_len", ""),
        ("trtllm-build", [*TRTLLM, "--kv_cache_type", "pagd"], "be one of continuous", "paged"),
        ("trtllm-build", [*TRTLLM, "--max_batch_size", "many"], "takes int, not 'many'", ""),
        ("trtllm-build", [*TRTLLM, "--max_batch_size"], "has no value", ""),
        ("trtllm-build", [*TRTLLM, "--max_batch_size", "--workers", "1"], "has no value", ""),
        ("trtllm-build", ["--output_dir", "o"], "missing: --checkpoint_dir", ""),
        ("trtllm-build", ["llama", *TRTLLM], "positional arguments are none", ""),
        ("tensorrt-edgellm-export", ["m", "--target-sm", "110"], "MODEL OUTPUT_DIR", ""),
        ("tensorrt-edgellm-export", ["--model_dir", "m"], "unknown option --model_dir", ""),
        (
            "tensorrt-edgellm-export",
            ["m", "o", "--quantization", "nvfp4"],
            "unknown option --quantization",
            "",
        ),
        (
            "tensorrt-edgellm-quantize",
            [*QUANTISE, "--num-samples", "4"],
            "unknown option --num-samples",
            "--num_samples",
        ),
        (
            "tensorrt-edgellm-quantize",
            [*QUANTISE, "--quantization", "int4"],
            "not 'int4'",
            "int4_awq",
        ),
        ("tensorrt-edgellm-quantize", ["lm", *QUANTISE[1:]], "command must be one of llm", ""),
        ("llm_build", ["--onnxDir", "a", "--engineDir", "b", "--max-input-len", "9"],
         "unknown option", "--maxInputLen"),
        ("quantize", [*QUANTISE[1:], "--qformat", "fp4"], "not 'fp4'", "nvfp4"),
    ],
)  # fmt: skip
def test_illegal_command_is_refused_and_the_nearest_flag_named(
    tool: str, arguments: list[str], why: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_argv(load(tool), arguments)
    assert why in str(caught.value)
    assert hint in caught.value.hint
    assert load(tool).tool in caught.value.what
