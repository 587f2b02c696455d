"""What is read from the headers of a checkpoint that ModelOpt quantised."""

from __future__ import annotations

from pathlib import Path

import modelopt_format
import pytest

from tests.support.zero_tensors import write_checkpoint

Tensors = dict[str, tuple[str, list[int]]]
LAYER = "model.layers.0.mlp.up_proj"
PLAIN: Tensors = {
    "model.embed_tokens.weight": ("F16", [4096, 8]),
    "lm_head.weight": ("F16", [9, 8]),
}
FP8: Tensors = {f"{LAYER}.weight": ("F8_E4M3", [4, 8]), f"{LAYER}.weight_scale": ("F32", [])}
NVFP4: Tensors = {
    f"{LAYER}.weight": ("U8", [4, 8]),
    f"{LAYER}.weight_scale": ("F8_E4M3", [4, 1]),
    f"{LAYER}.weight_scale_2": ("F32", []),
}
INT4: Tensors = {f"{LAYER}.weight": ("U8", [2, 16]), f"{LAYER}.weight_scale": ("F32", [4, 1])}
KEPT: Tensors = {"model.layers.1.mlp.up_proj.weight": ("F16", [2, 8])}


@pytest.mark.parametrize(
    ("tensors", "precision", "algorithm"),
    [(FP8, "fp8", "FP8"), (NVFP4, "nvfp4", "NVFP4"), (INT4, "int4", "W4A16_AWQ")],
)
def test_each_precision_is_known_by_its_tensors(
    tmp_path: Path, tensors: Tensors, precision: str, algorithm: str
) -> None:
    folder = write_checkpoint(tmp_path / "c", PLAIN | tensors, algorithm)
    assert modelopt_format.precision_of(folder) == precision
    assert modelopt_format.check(folder, precision) == 1.0
    for other in {"fp8", "nvfp4", "int4"} - {precision}:
        with pytest.raises(modelopt_format.FormatError, match="quant_algo"):
            modelopt_format.check(folder, other)


def test_another_algorithm_than_that_of_the_tensors_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", PLAIN | INT4, "NVFP4")
    with pytest.raises(modelopt_format.FormatError, match=r"not nvfp4, for example .*\(int4\)"):
        modelopt_format.check(folder, "nvfp4")


def test_layer_that_was_skipped_without_being_left_out_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", PLAIN | FP8 | KEPT, "FP8")
    with pytest.raises(modelopt_format.FormatError, match=r"model\.layers\.1\.mlp\.up_proj"):
        modelopt_format.check(folder, "fp8")


def test_layer_that_is_left_out_counts_as_not_quantised(tmp_path: Path) -> None:
    named = write_checkpoint(tmp_path / "c", PLAIN | FP8 | KEPT, "FP8", ("model.layers.1*",))
    assert modelopt_format.check(named, "fp8") == pytest.approx(32 / 48)


def test_checkpoint_of_which_everything_is_left_out_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", KEPT, "FP8", ("*",))
    with pytest.raises(modelopt_format.FormatError, match="no layer of the checkpoint is fp8"):
        modelopt_format.check(folder, "fp8")


@pytest.mark.parametrize(("dtype", "precision"), [("F16", "fp16"), ("BF16", "bf16")])
def test_precision_is_that_of_the_layers_and_not_of_a_larger_embedding(
    tmp_path: Path, dtype: str, precision: str
) -> None:
    embedding: Tensors = {"model.embed_tokens.weight": ("F32", [4096, 8])}
    layers: Tensors = {f"{LAYER}.weight": (dtype, [4, 8]), "model.norm.weight": ("F32", [8])}
    folder = write_checkpoint(tmp_path / "c", embedding | layers)
    assert modelopt_format.precision_of(folder) == precision


@pytest.mark.parametrize(
    ("precision", "config", "named"),
    [
        ("int4", {"hidden_size": 576, "num_attention_heads": 9}, "hidden_size 576"),
        ("int4", {"intermediate_size": 1000}, "intermediate_size 1000"),
        ("nvfp4", {"intermediate_size": 1000}, "intermediate_size 1000"),
        ("int4", {"head_dim": 80}, r"num_attention_heads \* head_dim 320"),
    ],
)
def test_width_that_is_no_multiple_of_the_block_is_refused_by_its_name(
    precision: str, config: dict[str, object], named: str
) -> None:
    whole: dict[str, object] = {"hidden_size": 256, "intermediate_size": 512}
    whole |= {"num_attention_heads": 4}
    modelopt_format.check_widths(whole, precision)
    with pytest.raises(modelopt_format.FormatError, match=named):
        modelopt_format.check_widths(whole | config, precision)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, (8).to_bytes(8, "little") + b"no json!"])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(modelopt_format.FormatError, match=r"model\.safetensors is damaged"):
        modelopt_format.precision_of(tmp_path)
