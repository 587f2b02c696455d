"""tokenizer.json from the vocabulary of a GGUF file or of a SentencePiece model. Pure.

The file is what the reference tokenizer of such a model has, so that both cut text alike:
`pre` (llama.cpp's name for a way to split text) selects the regular expressions. Sources: the
tokenizer.json of the models that llama.cpp names (convert_hf_to_gguf_update.py), llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understood import UnsupportedError

# Types of tokens: gguf.TokenType.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "▁"  # what SentencePiece writes for a blank

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_ENDINGS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_ENDINGS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Split:
    """How text is split before byte pairs are merged.

    Attributes:
        regex: of the pieces; empty: GPT-2's own, which tokenizers has built in.
        digits: whether each digit is a piece of its own before that.
        ignore_merges: whether a piece that is a token stays one, against the merges.
        nfc: whether text is normalised to NFC.
        bos: whether the file need not say that texts begin with the BOS token.
    """

    regex: str = ""
    digits: bool = False
    ignore_merges: bool = False
    nfc: bool = False
    bos: bool = False


LLAMA3 = Split(_LLAMA3, ignore_merges=True, bos=True)
DIGITS = Split(digits=True)
# tokenizer.ggml.pre → how text is split.
SPLITS: Mapping[str, Split] = {
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "llama-bpe": LLAMA3,
    "smaug-bpe": Split(_LLAMA3),
    "qwen2": Split(_QWEN2, nfc=True),
    "gpt-4o": Split(_GPT4O),
    "tekken": Split(_TEKKEN, ignore_merges=True, bos=True),
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "gpt-2": Split(),
}


@dataclass(frozen=True)
class Token:
    """One token of a vocabulary.

    Attributes:
        text: as the file has it: bytes as GPT-2's letters, or SentencePiece's pieces.
        kind: one of the types above.
        score: SentencePiece's; a higher one is merged first.
    """

    text: str
    kind: int
    score: float = 0.0


@dataclass(frozen=True)
class Ends:
    """Tokens that are put around a text: ids, or None."""

    bos: int | None
    eos: int | None


def byte_level(
    tokens: Sequence[Token], merges: Sequence[str], split: Split, ends: Ends
) -> dict[str, Any]:
    """Return tokenizer.json of a tokenizer that merges bytes, as GPT-2's."""
    pieces: list[dict[str, Any]] = []
    if split.digits:
        pieces.append({"type": "Digits", "individual_digits": True})
    if split.regex:
        pieces.append(
            {
                "type": "Split",
                "pattern": {"Regex": split.regex},
                "behavior": "Isolated",
                "invert": False,
            }
        )
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pieces.append(level | {"use_regex": not split.regex})
    model = _model(tokens, [_pair(line) for line in merges])
    model["ignore_merges"] = split.ignore_merges
    return _document(
        tokens,
        model,
        normalizer={"type": "NFC"} if split.nfc else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": pieces},
        post_processor=_template(tokens, ends, level | {"trim_offsets": False, "use_regex": True}),
        decoder=level | {"use_regex": True},
    )


def sentencepiece(
    tokens: Sequence[Token], ends: Ends, *, prefix: bool, unknown: int | None
) -> dict[str, Any]:
    """Return tokenizer.json of a SentencePiece BPE tokenizer that falls back to bytes.

    Args:
        tokens: the vocabulary; a piece with a higher score is merged first.
        ends: tokens around a text.
        prefix: whether a blank is put before each text (add_dummy_prefix).
        unknown: the id of the token for what has no bytes.
    """
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    normalizer = blank
    if prefix:
        before = {"type": "Prepend", "prepend": SPACE}
        normalizer = {"type": "Sequence", "normalizers": [before, blank]}
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    model = _model(tokens, merges_of(tokens))
    model |= {
        "unk_token": tokens[unknown].text if unknown is not None else None,
        "fuse_unk": True,
        "byte_fallback": True,
    }
    return _document(
        tokens,
        model,
        normalizer=normalizer,
        pre_tokenizer=None,
        post_processor=_template(tokens, ends, None),
        decoder={"type": "Sequence", "decoders": decoders},
    )


def merges_of(tokens: Sequence[Token]) -> list[list[str]]:
    """Return the merges that make the pieces of a SentencePiece vocabulary, in their order.

    SentencePiece merges the pair whose result has the highest score; a result that several pairs
    make is in the list with each of them, as transformers' own converter writes them.
    """
    ids = {
        token.text: index
        for index, token in enumerate(tokens)
        if token.kind in {NORMAL, USER_DEFINED}
    }
    order = sorted(ids, key=lambda text: -tokens[ids[text]].score)
    found = []
    for text in order:
        pairs = [
            (text[:cut], text[cut:])
            for cut in range(1, len(text))
            if text[:cut] in ids and text[cut:] in ids
        ]
        found += [list(pair) for pair in sorted(pairs, key=lambda two: (ids[two[0]], ids[two[1]]))]
    return found


def _pair(line: str) -> list[str]:
    left, _, right = line.partition(" ")
    if not left or not right or " " in right:
        raise UnsupportedError(f"the merge {line!r} in tokenizer.ggml.merges")
    return [left, right]


def _model(tokens: Sequence[Token], merges: list[list[str]]) -> dict[str, Any]:
    """Return the part `model`; padding at the end of the vocabulary does not belong to it."""
    size = len(tokens)
    while size and tokens[size - 1].kind == UNUSED:
        size -= 1
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens[:size]):
        if vocabulary.setdefault(token.text, index) != index:
            raise UnsupportedError(f"two tokens {token.text!r} in one vocabulary")
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
    }


def _document(tokens: Sequence[Token], model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(_added(tokens)),
        **parts,
        "model": model,
    }


def _added(tokens: Sequence[Token]) -> Iterable[dict[str, Any]]:
    for index, token in enumerate(tokens):
        if token.kind in {CONTROL, USER_DEFINED, UNKNOWN}:
            yield {
                "id": index,
                "content": token.text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": token.kind != USER_DEFINED,
            }


def _template(
    tokens: Sequence[Token], ends: Ends, first: dict[str, Any] | None
) -> dict[str, Any] | None:
    around: dict[str, Any] | None = None
    if ends.bos is not None or ends.eos is not None:
        used = [index for index in (ends.bos, ends.eos) if index is not None]
        around = {
            "type": "TemplateProcessing",
            "single": _side(tokens, ends, "A", 0),
            "pair": [*_side(tokens, ends, "A", 0), *_side(tokens, ends, "B", 1)],
            "special_tokens": {
                tokens[index].text: {
                    "id": tokens[index].text,
                    "ids": [index],
                    "tokens": [tokens[index].text],
                }
                for index in used
            },
        }
    if first is None or around is None:
        return around or first
    return {"type": "Sequence", "processors": [first, around]}


def _side(tokens: Sequence[Token], ends: Ends, name: str, kind: int) -> list[dict[str, Any]]:
    def special(index: int | None) -> list[dict[str, Any]]:
        if index is None:
            return []
        return [{"SpecialToken": {"id": tokens[index].text, "type_id": kind}}]

    text = {"Sequence": {"id": name, "type_id": kind}}
    return [*special(ends.bos), text, *special(ends.eos)]
