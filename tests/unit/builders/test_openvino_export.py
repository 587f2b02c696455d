"""What the OpenVINO export script refuses before it exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import openvino_export
import openvino_ir
import pytest
import room

INFINITY = float("inf")


def checkpoint(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def run(tmp_path: Path, precision: str = "int8", **config: Any) -> int:
    (tmp_path / "settings.json").write_text(json.dumps({"engine": {"precision": precision}}))
    folder = (
        tmp_path / "in" if (tmp_path / "in").exists() else checkpoint(tmp_path / "in", **config)
    )
    argv = ["--checkpoint", str(folder), "--settings", str(tmp_path / "settings.json")]
    return int(openvino_export.main([*argv, "--output", str(tmp_path / "out")]))


@pytest.mark.parametrize(
    ("precision", "config", "message"),
    [
        ("as-is", {}, "set engine.precision to one of fp16, bf16, int8, int4"),
        ("fp8", {}, "'fp8' is not supported"),
        ("int8", {"model_type": "gemma2"}, "attn_logit_softcapping"),
        ("int8", {"rope_parameters": {"rope_theta": 1}}, "but no rope_theta"),
        ("int8", {"quantization_config": {"quant_method": "awq"}}, "quantised already (awq)"),
    ],
)
def test_main_ends_with_3_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    config: dict[str, Any],
    message: str,
) -> None:
    assert run(tmp_path, precision, **config) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_folder_without_a_needed_file_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (checkpoint(tmp_path / "in") / name).unlink()
    assert run(tmp_path) == 3
    assert name.replace("model", "") in capsys.readouterr().err


def test_too_little_memory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: room.Available(1))
    assert run(tmp_path) == 4
    assert "of memory, but 1 MiB are available" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "high", "precision", "message"),
    [
        (float("nan"), float("nan"), "int8", "not finite"),
        (-1.0, INFINITY, "bf16", "not finite"),
        (-1e5, 1.0, "fp16", "set engine.precision: bf16"),
    ],
)
def test_weight_that_the_precision_does_not_hold_is_refused(
    low: float, high: float, precision: str, message: str
) -> None:
    with pytest.raises(openvino_ir.CheckpointError, match=message) as caught:
        openvino_export.check_values("layer.weight", low, high, "model.safetensors", precision)
    assert "layer.weight of model.safetensors" in str(caught.value)


def test_weight_above_fp16_is_kept_in_bf16() -> None:
    openvino_export.check_values("w", -1e5, 1e5, "f", "bf16")
    openvino_export.check_values("w", -65504.0, 65504.0, "f", "fp16")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("missing_keys", "has no layers.1.q"),
        ("unexpected_keys", "does not use: layers.1.q"),
        ("mismatched_keys", "another shape of layers.1.q"),
    ],
)
def test_loader_s_report_is_an_error(key: str, message: str) -> None:
    openvino_export.check_loading({"missing_keys": [], "error_msgs": []})
    with pytest.raises(openvino_ir.CheckpointError, match=message):
        openvino_export.check_loading({key: ["layers.1.q"]})


@pytest.mark.parametrize("text", ["", "[]", '{"engine": 3}'])
def test_requested_precision_refuses_what_is_no_settings_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(openvino_ir.CheckpointError, match=r"settings.json is not"):
        openvino_ir.requested_precision(path)


def test_type_of_most_bytes_is_what_was_found() -> None:
    assert openvino_ir.most({"u4": 10, "f16": 3, "u8": 9}) == "u4"
    assert openvino_ir.most({}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "<net><rt_info><a /></rt_info></net>",
        '<net><rt_info><runtime_options><K value="f16" /></runtime_options></rt_info></net>',
    ],
)
def test_ir_keeps_its_options_and_says_not_to_round_activations(tmp_path: Path, text: str) -> None:
    model = tmp_path / "openvino_model.xml"
    model.write_text(text)
    openvino_ir.keep_activations(model)
    options = ET.fromstring(model.read_text()).find("rt_info/runtime_options")  # noqa: S314 - our own text
    assert options is not None
    assert options[0].tag == "DYNAMIC_QUANTIZATION_GROUP_SIZE"
    assert options[0].attrib == {"value": "0"}
    assert len(options) == 1 + ("<K" in text)
