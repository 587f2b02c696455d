"""tokenizer.model becomes tokenizer.json, or is refused; the files are made by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from huggingface_folder import CheckpointError
from sentencepiece_model import convert

PIECES = (("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁", -2.0, 1), ("a", -3.0, 1),
          ("▁a", -1.0, 1))  # fmt: skip


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def model(*, kind: int = 2, fallback: int = 1, charsmap: bytes = b"", extra: int = 0) -> bytes:
    pieces = b"".join(
        message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, of))
        for text, score, of in PIECES
    )
    trainer = number(3, kind) + number(35, fallback)
    normalizer = message(1, b"identity") + message(2, charsmap) + number(3, 1) + number(4, extra)
    return pieces + message(2, trainer) + message(3, normalizer)


def converted(folder: Path, raw: bytes, config: object = None) -> tuple[Any, Any]:
    (folder / "tokenizer.model").write_bytes(raw)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    convert(folder / "tokenizer.model", folder)
    return tuple(
        json.loads((folder / name).read_text())
        for name in ("tokenizer.json", "tokenizer_config.json")
    )


def test_byte_pair_model_is_converted(tmp_path: Path) -> None:
    tokenizer, config = converted(tmp_path, model())
    assert tokenizer["model"]["vocab"] == {text: index for index, (text, *_) in enumerate(PIECES)}
    assert tokenizer["model"]["merges"] == [["▁", "a"]]
    assert tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"] == "<s>"
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (config["bos_token"], config["eos_token"]) == ("<s>", "</s>")


def test_config_of_the_checkpoint_decides_about_bos(tmp_path: Path) -> None:
    tokenizer, config = converted(tmp_path, model(), {"add_bos_token": False, "pad_token": "</s>"})
    assert tokenizer["post_processor"] is None
    assert config["pad_token"] == "</s>"


REFUSED = {
    "unigrams": (model(kind=1), "model_type 1"),
    "no bytes": (model(fallback=0), "byte_fallback false"),
    "a normaliser": (model(charsmap=b"map"), "the normalizer identity"),
    "collapsed blanks": (model(extra=1), "remove_extra_whitespaces true"),
    "half a file": (model()[:-3], "not a valid SentencePiece model"),
    "nothing": (b"", "not a valid SentencePiece model"),
    "text": (b"hello world", "not a valid SentencePiece model"),
}


@pytest.mark.parametrize(("raw", "message_"), REFUSED.values(), ids=REFUSED)
def test_other_models_are_refused(tmp_path: Path, raw: bytes, message_: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        converted(tmp_path, raw)
    assert message_ in str(caught.value)


def test_tokens_that_only_the_config_has_are_refused(tmp_path: Path) -> None:
    added = {"added_tokens_decoder": {"32000": {"content": "<|im_end|>"}}}
    with pytest.raises(CheckpointError, match="im_end"):
        converted(tmp_path, model(), added)
