"""The tokenizer of a GGUF file as files of Hugging Face. Pure.

`convert` takes every field `tokenizer.*` or raises UnsupportedError that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizer_json import (
    CONTROL,
    NORMAL,
    SPLITS,
    Ends,
    Token,
    byte_level,
    sentencepiece,
)
from understood import UnsupportedError

KIND, PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
SPM_PRE = {None, "default"}
# Fields that change no token of a text: names of tokens for infilling and classification.
HARMLESS = (
    "tokenizer.ggml.token_type_count",
    *(
        f"tokenizer.ggml.{name}_token_id"
        for name in (
            *("separator", "seperator", "cls", "mask", "prefix", "suffix", "middle"),
            *("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"),
        )
    ),
    "tokenizer.ggml.add_sep_token",  # of pairs of texts
    "tokenizer.huggingface.json",  # a second copy of what the other fields say
)
TEMPLATE, TEMPLATES = "tokenizer.chat_template", "tokenizer.chat_templates"


@dataclass(frozen=True)
class Tokenizer:
    """Files of a tokenizer.

    Attributes:
        tokenizer: content of tokenizer.json.
        config: content of tokenizer_config.json.
        templates: chat template by name; `default` is the one without a name.
        ids: `bos_token_id`, `eos_token_id` (a list if there are several), `pad_token_id`.
    """

    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any]
    templates: Mapping[str, str]
    ids: Mapping[str, Any]


class Fields:
    """The fields `tokenizer.*`; none may be left."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self.left = {
            name: value
            for name, value in metadata.items()
            if name.startswith("tokenizer.") and name not in HARMLESS
        }

    def take(self, name: str, default: Any = None) -> Any:
        """Return a field of tokenizer.ggml and mark it as used."""
        return self.left.pop(f"tokenizer.ggml.{name}", default)

    def flag(self, name: str, default: bool) -> bool:  # noqa: FBT001
        """Return a boolean."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise UnsupportedError(f"tokenizer.ggml.{name} = {value!r}")
        return value

    def token(self, name: str, size: int) -> int | None:
        """Return the id of a token; None if there is none."""
        value = self.take(f"{name}_token_id")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
            raise UnsupportedError(f"tokenizer.ggml.{name}_token_id = {value!r} of {size} tokens")
        return value


def convert(metadata: Mapping[str, object]) -> Tokenizer:
    """Return the tokenizer of a GGUF file. Raises UnsupportedError naming what is not supported."""
    fields = Fields(metadata)
    templates = _templates(fields)
    kind, pre = fields.take("model"), fields.take("pre")
    tokens = _tokens(fields)
    size = len(tokens)
    ids = {name: fields.token(name, size) for name in ("bos", "eos", "padding", "unknown")}
    more = [fields.token(name, size) for name in ("eot", "eom")]
    if kind == "gpt2":
        tokenizer, adds_bos = _byte_level(fields, pre, tokens, ids)
    elif kind == "llama" and pre in SPM_PRE:
        tokenizer, adds_bos = _sentencepiece(fields, tokens, ids)
    else:
        raise UnsupportedError(f"{KIND} = {kind!r} with {PRE} = {pre!r}")
    if fields.left:
        names = ", ".join(f"{name} = {str(value)[:40]!r}" for name, value in fields.left.items())
        raise UnsupportedError(names)
    ends = [ids["eos"], *more]
    eos = list(dict.fromkeys(index for index in ends if index is not None))
    found = {
        "bos_token_id": ids["bos"],
        "eos_token_id": eos[0] if len(eos) == 1 else (eos or None),
        "pad_token_id": ids["padding"],
    }
    return Tokenizer(tokenizer, _config(tokens, ids, adds_bos=adds_bos), templates, found)


def _tokens(fields: Fields) -> list[Token]:
    texts: Sequence[str] = fields.take("tokens", [])
    kinds: Sequence[int] = fields.take("token_type", [NORMAL] * len(texts))
    scores: Sequence[float] = fields.take("scores", [0.0] * len(texts))
    if not texts or not len(texts) == len(kinds) == len(scores):
        counts = f"{len(texts)} tokens, {len(kinds)} types, {len(scores)} scores"
        raise UnsupportedError(f"a GGUF file whose vocabulary has {counts}")
    return [Token(*entry) for entry in zip(texts, kinds, scores, strict=True)]


def _byte_level(
    fields: Fields, pre: object, tokens: Sequence[Token], ids: Mapping[str, int | None]
) -> tuple[dict[str, Any], bool]:
    split = SPLITS.get(pre) if isinstance(pre, str) else None
    if split is None:
        known = ", ".join(SPLITS)
        raise UnsupportedError(f"{PRE} = {pre!r}, the way to split text (it knows {known})")
    if fields.flag("add_space_prefix", default=False):
        raise UnsupportedError("tokenizer.ggml.add_space_prefix = True with byte pairs")
    ends = _ends(fields, ids, bos=split.bos)
    merges = fields.take("merges", [])
    return byte_level(tokens, merges, split, ends), ends.bos is not None


def _sentencepiece(
    fields: Fields, tokens: Sequence[Token], ids: Mapping[str, int | None]
) -> tuple[dict[str, Any], bool]:
    if fields.flag("remove_extra_whitespaces", default=False):
        raise UnsupportedError("tokenizer.ggml.remove_extra_whitespaces = True")
    prefix = fields.flag("add_space_prefix", default=True)
    fields.take("merges")  # some converters write them too; they follow from the scores
    ends = _ends(fields, ids, bos=True)
    document = sentencepiece(tokens, ends, prefix=prefix, unknown=ids["unknown"])
    return document, ends.bos is not None


def _ends(fields: Fields, ids: Mapping[str, int | None], *, bos: bool) -> Ends:
    first = fields.flag("add_bos_token", default=bos)
    last = fields.flag("add_eos_token", default=False)
    for wanted, name in ((first, "bos"), (last, "eos")):
        if wanted and ids[name] is None:
            raise UnsupportedError(f"tokenizer.ggml.add_{name}_token without {name}_token_id")
    return Ends(ids["bos"] if first else None, ids["eos"] if last else None)


def _templates(fields: Fields) -> dict[str, str]:
    named = fields.left.pop(TEMPLATES, [])
    found = {}
    for name in list(fields.left):
        if name == TEMPLATE or name.startswith(f"{TEMPLATE}."):
            text = fields.left.pop(name)
            if not isinstance(text, str):
                raise UnsupportedError(f"{name} that is not a text")
            found[name.removeprefix(TEMPLATE).removeprefix(".") or "default"] = text
    missing = [name for name in named if name not in found]
    if missing:
        raise UnsupportedError(f"{TEMPLATES} without {TEMPLATE}.{missing[0]}")
    return found


def _config(
    tokens: Sequence[Token], ids: Mapping[str, int | None], *, adds_bos: bool
) -> dict[str, Any]:
    """Return tokenizer_config.json. A class of a model would build another tokenizer."""
    names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    for name, field in names.items():
        index = ids[name]
        if index is not None and (name != "unknown" or tokens[index].kind != NORMAL):
            config[field] = tokens[index].text
    if adds_bos and ids["bos"] is not None and tokens[ids["bos"]].kind != CONTROL:
        raise UnsupportedError(f"a BOS token of type {tokens[ids['bos']].kind}")
    return config
