"""The conversion script's own decisions; the conversion itself: tests/e2e."""

import json
from pathlib import Path
from typing import Any

import pytest

from forge.builders.tools.to_huggingface import CheckpointError, find_gguf, main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A Hugging Face folder as transformers 4 writes it."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    write(folder, {"model_type": "qwen2", "rope_theta": 1000000.0})
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "deep" / "more.txt").write_text("more")
    return folder


def write(folder: Path, config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def convert(folder: Path, *more: str) -> int:
    output = folder.parent / "out"
    output.mkdir(exist_ok=True)
    return main(["--checkpoint", str(folder), "--output", str(output), *more])


def config_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder.parent / "out" / "config.json").read_text())
    return read


def test_hugging_face_folder_is_passed_on_byte_for_byte(checkpoint: Path) -> None:
    assert convert(checkpoint, "--architecture", "qwen2") == 0
    output = checkpoint.parent / "out"
    for path in (Path("config.json"), Path("model.safetensors"), Path("deep/more.txt")):
        assert (output / path).read_bytes() == (checkpoint / path).read_bytes()
    assert (output / "model.safetensors").samefile(checkpoint / "model.safetensors")


def test_rotary_base_of_transformers_5_gets_the_name_transformers_4_reads(checkpoint: Path) -> None:
    write(checkpoint, {"model_type": "llama", "rope_parameters": {"rope_theta": 100000.0}})
    before = (checkpoint / "config.json").read_bytes()
    assert convert(checkpoint) == 0
    assert config_of(checkpoint)["rope_theta"] == 100000.0
    assert "rope_scaling" not in config_of(checkpoint)
    assert (checkpoint / "config.json").read_bytes() == before, "the input is a hard link away"


def test_rotary_scaling_of_transformers_5_gets_the_old_name_too(checkpoint: Path) -> None:
    rope = {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0}
    write(checkpoint, {"model_type": "llama", "rope_parameters": rope})
    assert convert(checkpoint) == 0
    assert config_of(checkpoint)["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
    assert config_of(checkpoint)["rope_parameters"] == rope


REFUSED = {
    "another architecture": ({"model_type": "gpt2"}, "is a 'gpt2' model, its URL says 'llama'"),
    "a list": ([1], "does not hold an object"),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_checkpoint_that_is_something_else_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], config: object, message: str
) -> None:
    write(checkpoint, config)
    assert convert(checkpoint, "--architecture", "llama") == 3
    assert message in capsys.readouterr().err


def test_config_that_is_no_json_ends_with_3(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "config.json").write_text("{")
    assert convert(checkpoint) == 3
    assert "config.json is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("names", [[], ["a.gguf", "b.gguf"]])
def test_anything_but_one_gguf_file_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="neither a Hugging Face folder nor one GGUF file"):
        find_gguf(tmp_path)
