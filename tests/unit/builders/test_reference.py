"""In which precision a reference is computed, by what the memory is enough for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import reference
import room

VOCABULARY = 1024  # 12 MiB for the logits of 1,024 positions


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of 1,000 MiB."""
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}))
    monkeypatch.setattr(room, "weights_mib", lambda _folder: 1000)
    return tmp_path


def chosen(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, available: int | None) -> str:
    found = None if available is None else room.Available(available)
    monkeypatch.setattr(room, "available_memory", lambda: found)
    return str(reference.check_room(checkpoint, checkpoint / "out"))


def test_highest_precision_that_fits_is_computed(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half = (reference.ROOM[name] for name in ("float32", "bfloat16"))
    most = round(whole.memory_mib + whole.memory * 1000 + 12)
    least = round(half.memory_mib + half.memory * 1000 + 12)
    assert chosen(checkpoint, monkeypatch, most) == "float32"
    assert chosen(checkpoint, monkeypatch, most - 1) == "bfloat16"
    assert chosen(checkpoint, monkeypatch, least) == "bfloat16"
    assert chosen(checkpoint, monkeypatch, None) == "float32"
    with pytest.raises(room.NoRoomError, match=r"MiB of weights in bfloat16 takes up to"):
        chosen(checkpoint, monkeypatch, least - 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"vocab_size": null}', '{"vocab_size": "x"}'])
def test_config_without_a_vocabulary_is_refused_before_anything_is_loaded(
    checkpoint: Path, text: str
) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(reference.CheckpointError, match=r"config\.json has no valid vocab_size"):
        reference.check_room(checkpoint, checkpoint / "out")


def test_vocabulary_of_a_model_of_several_parts_is_that_of_its_text(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"text_config": {"vocab_size": 2048}}')
    assert reference.logits_mib(checkpoint) == 24
