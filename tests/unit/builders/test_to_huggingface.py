"""The conversion script's own decisions, before torch is needed; real models: tests/e2e."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_checkpoint import _unpermuted, parts_of
from safetensors_file import Planned, write
from to_huggingface import main, pass_on, write_config
from understood import UnsupportedError

TOOLS = Path(__file__).parents[3] / "forge" / "builders" / "tools"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A Hugging Face folder as transformers 4 writes it."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    write_json(folder, {"model_type": "llama", "rope_theta": 1000000.0, "vocab_size": 2})
    write(folder, [Planned("model.embed_tokens.weight", "F16", (2, 2))], [bytes(8)])
    (folder / "tokenizer.json").write_text("{}")
    (folder / "deep" / "more.txt").write_text("more")
    return folder


def write_json(folder: Path, config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def convert(folder: Path, *more: str) -> int:
    output = folder.parent / "out"
    output.mkdir(exist_ok=True)
    return int(main(["--checkpoint", str(folder), "--output", str(output), *more]))


def test_files_are_passed_on_byte_for_byte(checkpoint: Path) -> None:
    output = checkpoint.parent / "out"
    pass_on(checkpoint, output)
    for path in (Path("config.json"), Path("model.safetensors"), Path("deep/more.txt")):
        assert (output / path).read_bytes() == (checkpoint / path).read_bytes()
    assert (output / "model.safetensors").samefile(checkpoint / "model.safetensors")


def test_config_with_more_names_does_not_change_the_checkpoint(checkpoint: Path) -> None:
    output = checkpoint.parent / "out"
    pass_on(checkpoint, output)
    before = (checkpoint / "config.json").read_bytes()
    write_config({"a": 1}, {"a": 1, "b": 2}, output / "config.json")
    assert json.loads((output / "config.json").read_text()) == {"a": 1, "b": 2}
    assert (checkpoint / "config.json").read_bytes() == before, "the input is a hard link away"


REFUSED: dict[str, tuple[Any, str]] = {
    "another architecture": (
        {"model_type": "gpt2"},
        "is a 'gpt2' model, but its URL has architecture=llama",
    ),
    "a list": ([1], "is not a JSON object"),
    "a quantised model": (
        {"model_type": "llama", "quantization_config": {"quant_method": "gptq"}},
        "quantised already (quantization_config: gptq)",
    ),
    "an odd quantisation": (
        {"model_type": "llama", "quantization_config": 4},
        "quantised already (quantization_config: unnamed)",
    ),
    "a model that sees": (
        {"model_type": "llama", "vision_config": {}, "text_config": {"model_type": "llama"}},
        "more parts than its text model (text_config, vision_config)",
    ),
    "a field of no list": (
        {"model_type": "llama", "attn_logit_softcapping": 50.0},
        "does not support config.json: attn_logit_softcapping = 50.0",
    ),
    "a scaling of no list": (
        {"model_type": "llama", "rope_scaling": {"type": "su"}},
        "does not support config.json: rope_type = 'su'",
    ),
    "two bases": (
        {"model_type": "llama", "rope_theta": 1.0, "rope_parameters": {"rope_theta": 2.0}},
        "config.json contradicts itself: rope_theta",
    ),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_checkpoint_that_is_something_else_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], config: object, message: str
) -> None:
    write_json(checkpoint, config)
    assert convert(checkpoint, "--architecture", "llama") == 3
    assert message in capsys.readouterr().err
    assert list((checkpoint.parent / "out").iterdir()) == []


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, "\udcff"], ids=repr)
def test_config_that_is_not_json_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (checkpoint / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    assert convert(checkpoint) == 3
    assert "config.json is not JSON" in capsys.readouterr().err


def test_lora_adapter_ends_with_3(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "config.json").unlink()
    write_json(checkpoint, {"model_type": "llama"})
    (checkpoint / "adapter_config.json").write_text("{}")
    assert convert(checkpoint) == 3
    assert "is a LoRA adapter" in capsys.readouterr().err


def test_folder_without_a_tokenizer_ends_with_3_before_weights_are_read(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "vocab.json").write_text("{}")
    assert convert(checkpoint) == 3
    assert "no tokenizer.json (found: vocab.json)" in capsys.readouterr().err


def test_folder_without_weights_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    assert convert(checkpoint) == 3
    assert "has no model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a.gguf", "b.gguf"],
        ["a-00001-of-00002.gguf", "b-00002-of-00002.gguf"],
        ["a-00001-of-00002.gguf", "a.gguf"],
    ],
)
def test_anything_but_one_gguf_model_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UnsupportedError, match="neither a Hugging Face folder nor one GGUF model"):
        parts_of([tmp_path / name for name in names])


def test_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"one of 3 parts, but part \[2\] is missing"):
        parts_of([tmp_path / f"a-0000{number}-of-00003.gguf" for number in (1, 3)])


def test_parts_are_in_order(tmp_path: Path) -> None:
    names = [f"a-0000{number}-of-00003.gguf" for number in (3, 1, 2)]
    assert [path.name[2:7] for path in parts_of([tmp_path / name for name in names])] == [
        "00001", "00002", "00003",
    ]  # fmt: skip


def test_pairs_of_llama_cpp_become_halves_of_hugging_face() -> None:
    # Rows of one head of size 4 in Hugging Face: x0 x1 y0 y1; llama.cpp rotates x0 y0, x1 y1.
    rows = np.array([["x0"], ["y0"], ["x1"], ["y1"], ["X0"], ["Y0"], ["X1"], ["Y1"]])
    assert _unpermuted(rows, 2).ravel().tolist() == ["x0", "x1", "y0", "y1", "X0", "X1", "Y0", "Y1"]
    assert _unpermuted(rows[:4, 0], 1).tolist() == ["x0", "x1", "y0", "y1"]


def test_scripts_import_only_siblings_and_packages_of_their_environment() -> None:
    for name in ("to_huggingface.py", "to_onnx.py"):
        assert "import forge" not in (TOOLS / name).read_text()
        assert "from forge" not in (TOOLS / name).read_text()
