"""tokenizer.json from a tokenizer.model of SentencePiece. Standard library only.

The file is a protocol buffer, sentencepiece_model.proto: ModelProto has pieces (1), trainer_spec
(2) and normalizer_spec (3); of them the fields named below are read. Supported is what Llama 2,
Mistral and TinyLlama have: byte pairs (BPE) that fall back to bytes, with the normalizer
`identity`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from huggingface_folder import MAX_MODEL_BYTES, CheckpointError
from tokenizer_json import NORMAL, Ends, Token, sentencepiece

PIECES, TRAINER, NORMALIZER = 1, 2, 3
PIECE, SCORE, KIND = 1, 2, 3
MODEL_TYPE, BYTE_FALLBACK, UNK_ID, BOS_ID, EOS_ID = 3, 35, 40, 41, 42  # of TrainerSpec
NAME, CHARSMAP, DUMMY_PREFIX, EXTRA_SPACES = 1, 2, 3, 4  # of NormalizerSpec
BPE = 2
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5  # types on the wire


def convert(path: Path, output: Path) -> None:
    """Write tokenizer.json, and tokenizer_config.json if there is none.

    Raises CheckpointError for a tokenizer that is not supported.
    """
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise CheckpointError(f"{path.name} is larger than {MAX_MODEL_BYTES} bytes")
    config = _config(output / "tokenizer_config.json")
    try:
        document, names = _document(path.read_bytes(), config)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} is not a valid SentencePiece model: {error}") from None
    text = json.dumps(document, ensure_ascii=False, indent=2)
    (output / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    # A class of a model (LlamaTokenizer) would build its own tokenizer, without the checkpoint's.
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    config = {**names, **config}
    target = output / "tokenizer_config.json"
    target.unlink(missing_ok=True)  # it may be a hard link to the checkpoint's own file
    target.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {"clean_up_tokenization_spaces": False}
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path.name} is not a JSON object")
    if config.get("added_tokens_decoder"):
        more = [entry for entry in config["added_tokens_decoder"].values()
                if entry.get("content") not in {"<unk>", "<s>", "</s>", "<pad>"}]  # fmt: skip
        if more:
            raise CheckpointError(
                f"{path.name} has tokens that tokenizer.model has not: {more[0].get('content')!r}\n"
                "  → write tokenizer.json with AutoTokenizer.from_pretrained(FOLDER)"
                ".save_pretrained(FOLDER)"
            )
    return config


def _document(raw: bytes, config: dict[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    tokens: list[Token] = []
    trainer: dict[int, object] = {}
    normalizer: dict[int, object] = {}
    for number, value in _fields(raw):
        if number == PIECES and isinstance(value, bytes):
            tokens.append(_token(value))
        elif number == TRAINER and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == NORMALIZER and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    if not tokens:
        raise ValueError("it has no pieces")
    problem = _problem(trainer, normalizer)
    if problem:
        raise CheckpointError(
            f"Forge does not support tokenizer.model with {problem}\n"
            "  → write tokenizer.json with AutoTokenizer.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER)"
        )
    unknown, bos, eos = (
        _id(trainer.get(number, default))
        for number, default in ((UNK_ID, 0), (BOS_ID, 1), (EOS_ID, 2))
    )
    ends = Ends(
        bos if config.get("add_bos_token", True) else None,
        eos if config.get("add_eos_token", False) else None,
    )
    prefix = bool(normalizer.get(DUMMY_PREFIX, 1))
    document = sentencepiece(tokens, ends, prefix=prefix, unknown=unknown)
    ids = {"unk_token": unknown, "bos_token": bos, "eos_token": eos}
    names = {name: tokens[index].text for name, index in ids.items()
             if index is not None and tokens[index].kind != NORMAL}  # fmt: skip
    return document, names


def _problem(trainer: dict[int, object], normalizer: dict[int, object]) -> str:
    if trainer.get(MODEL_TYPE, 1) != BPE:
        return f"model_type {trainer.get(MODEL_TYPE, 1)} (it supports BPE, {BPE})"
    if not trainer.get(BYTE_FALLBACK, 0):
        return "byte_fallback false"
    if normalizer.get(CHARSMAP):
        name = normalizer.get(NAME, b"")
        return f"the normalizer {name.decode() if isinstance(name, bytes) else name}"
    if normalizer.get(EXTRA_SPACES, 1):
        return "remove_extra_whitespaces true"
    return ""


def _token(raw: bytes) -> Token:
    fields = dict(_fields(raw))
    text, score, kind = fields.get(PIECE, b""), fields.get(SCORE, 0.0), fields.get(KIND, NORMAL)
    if not isinstance(text, bytes) or not isinstance(score, float) or not isinstance(kind, int):
        raise ValueError("a piece is damaged")  # noqa: TRY004
    return Token(text.decode(), kind, score)


def _id(value: object) -> int | None:
    """Return an id; -1, a varint of 64 bits, stands for none."""
    return value if isinstance(value, int) and value < 1 << 31 else None


def _fields(raw: bytes) -> Iterator[tuple[int, object]]:
    """Yield number and value of each field of one message."""
    position = 0
    while position < len(raw):
        key, position = _varint(raw, position)
        kind = key & 7
        if kind == VARINT:
            value: object
            value, position = _varint(raw, position)
        elif kind == BYTES:
            length, position = _varint(raw, position)
            if position + length > len(raw):
                raise ValueError("it is cut off")
            value, position = raw[position : position + length], position + length
        elif kind == FOUR:
            value, position = struct.unpack_from("<f", raw, position)[0], position + 4
        elif kind == EIGHT:
            value, position = struct.unpack_from("<d", raw, position)[0], position + 8
        else:
            raise ValueError(f"a field of type {kind}")
        yield key >> 3, value


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004
            return value, position
        shift += 7
        if shift > 63:  # noqa: PLR2004
            raise ValueError("a number is too long")
