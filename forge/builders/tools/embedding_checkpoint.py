"""Read a checkpoint of sentence-transformers: what its files say of the model. Standard library.

    modules.json                what the model is made of, in order
    config.json                 the transformer
    sentence_bert_config.json   longest text
    1_Pooling/config.json       how the vectors of tokens become one

Every file and field is either understood or refused by name: a module that is left out would give
vectors that look right and are not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MODULES = "modules.json"
CONFIG = "config.json"
LENGTH = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
MAX_BYTES = 64 * 1024 * 1024
# Modules after the transformer, by the last part of their class; the second may be absent.
POOLING, NORMALIZE = "Pooling", "Normalize"
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
LEAST_LENGTH = 2  # tokens that a tokenizer of BERT adds to every text
_MODULE_FIELDS = ("idx", "name", "path", "type")
_PROMPT_FIELDS = ("__version__", "default_prompt_name", "model_type", "prompts")
_SIMILARITY = "similarity_fn_name"  # of two vectors: not part of them
_EMPTY: tuple[Any, ...] = (None, False, 0, "", [], {})
_WIDTHS = ("word_embedding_dimension", "embedding_dimension")


class UnsupportedEmbeddingError(Exception):
    """The checkpoint is not an embedding model that is understood; the message says why."""


@dataclass(frozen=True)
class EmbeddingCheckpoint:
    """A model that makes one vector of a text.

    Attributes:
        folder: of the transformer: config.json, safetensors, tokenizer.json.
        config: the content of config.json.
        pooling: `mean` over the tokens of a text, or `cls`: the first token's vector.
        normalize: whether the vector is scaled to length 1.
        max_seq_len: longest text, tokens, with those that the tokenizer adds.
        dimensions: of a vector.
    """

    folder: Path
    config: Mapping[str, Any]
    pooling: str
    normalize: bool
    max_seq_len: int
    dimensions: int


def read_checkpoint(checkpoint: Path) -> EmbeddingCheckpoint:
    """Return what a checkpoint is; its folder may be inside `checkpoint`.

    Raises UnsupportedEmbeddingError.
    """
    base = _base(checkpoint)
    modules = _modules(base)
    folder = _inside(base, modules[0])
    config = read_object(folder / CONFIG)
    width = whole(config, "hidden_size", CONFIG)
    pooling = _pooling(read_object(_inside(base, modules[1]) / CONFIG), width)
    _check_prompts(base)
    _check_normalize(base, modules)
    return EmbeddingCheckpoint(
        folder=folder,
        config=config,
        pooling=pooling,
        normalize=len(modules) > 2,  # noqa: PLR2004 - transformer, pooling, normalize
        max_seq_len=_longest(folder, config),
        dimensions=width,
    )


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises UnsupportedEmbeddingError."""
    found = _read(path)
    if not isinstance(found, dict):
        raise UnsupportedEmbeddingError(f"{path.name} is not a JSON object")
    return found


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnsupportedEmbeddingError(f"{path.name} is larger than {MAX_BYTES} bytes")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UnsupportedEmbeddingError(
            f"the checkpoint has no readable {path.name}: {error.strerror}\n"
            "  → use a checkpoint of sentence-transformers, with all of its files"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UnsupportedEmbeddingError(f"{path.name} is not valid JSON: {error}") from None


def _base(checkpoint: Path) -> Path:
    """Return the folder with modules.json, of which there must be one."""
    found = sorted(checkpoint.rglob(MODULES))
    if len(found) == 1:
        return found[0].parent
    what = f"{len(found)} files {MODULES}" if found else f"no {MODULES}"
    raise UnsupportedEmbeddingError(
        f"the checkpoint has {what}: it is not a single model of sentence-transformers\n"
        "  → select the files of one model with path= in the checkpoint's URL"
    )


def _modules(base: Path) -> list[str]:
    """Return the folders of transformer, pooling and, if there is one, normalisation."""
    entries = _read(base / MODULES)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise UnsupportedEmbeddingError(f"{MODULES} is not a list of objects")
    if not 2 <= len(entries) <= 3:  # noqa: PLR2004
        message = f"{MODULES} has {len(entries)} modules; 2 or 3 are supported"
        raise UnsupportedEmbeddingError(message)
    for place, entry in enumerate(entries):
        _refuse_unknown(entry, _MODULE_FIELDS, MODULES)
        if type(entry.get("idx", place)) is not int or entry.get("idx", place) != place:
            message = f"{MODULES} has idx {entry['idx']!r} in place {place}"
            raise UnsupportedEmbeddingError(message)
    kinds = [_text(one, "type", MODULES) for one in entries]
    for wanted, found in zip(("Transformer", POOLING, NORMALIZE), kinds, strict=False):
        if not found.startswith("sentence_transformers.") or found.rpartition(".")[2] != wanted:
            raise UnsupportedEmbeddingError(
                f"{MODULES} names {found!r} where a {wanted} is supported\n"
                "  → use a model of Transformer, Pooling and, if it has it, Normalize"
            )
    return [_text(one, "path", MODULES) for one in entries]


def _inside(base: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise UnsupportedEmbeddingError(f"{MODULES} names the path {path!r}")
    return base / path


def _pooling(config: Mapping[str, Any], width: int) -> str:
    """Return the name of the pooling. Raises UnsupportedEmbeddingError for another one."""
    for name in _WIDTHS:
        if name in config and whole(config, name, "pooling") != width:
            message = f"pooling has {name} {config[name]} and the transformer {width} dimensions"
            raise UnsupportedEmbeddingError(message)
    if not flag(config, "include_prompt", "pooling", default=True):
        raise UnsupportedEmbeddingError("pooling without the prompt's tokens is not supported")
    _refuse_unknown(
        {name: value for name, value in config.items() if not name.startswith("pooling_mode_")},
        ("include_prompt", "pooling_mode", *_WIDTHS),
        "pooling",
    )
    modes = _modes(config)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        found = " and ".join(modes) or "none"
        raise UnsupportedEmbeddingError(
            f"pooling is {found}; supported is one of {', '.join(POOLINGS)}"
        )
    return POOLINGS[modes[0]]


def _modes(config: Mapping[str, Any]) -> list[str]:
    """Return the names of all poolings that the configuration asks for."""
    flags = [name for name in config if name.startswith("pooling_mode_")]
    modes = [name for name in flags if flag(config, name, "pooling", default=False)]
    if "pooling_mode" not in config:
        return modes
    stated = config["pooling_mode"]  # as sentence-transformers 5.3 writes it
    names = {short: name for name, short in POOLINGS.items()}
    named = names.get(stated, stated) if isinstance(stated, str) else repr(stated)
    return [named, *(one for one in modes if one != named)]


def _longest(folder: Path, config: Mapping[str, Any]) -> int:
    """Return the longest text, as sentence-transformers finds it, tokens."""
    most = whole(config, "max_position_embeddings", CONFIG, least=LEAST_LENGTH)
    stated = read_object(folder / LENGTH) if (folder / LENGTH).is_file() else {}
    if flag(stated, "do_lower_case", LENGTH, default=False):
        raise UnsupportedEmbeddingError(f"{LENGTH} has do_lower_case, which is not supported")
    _refuse_unknown(stated, ("max_seq_length", "do_lower_case"), LENGTH)
    if stated.get("max_seq_length") is not None:
        return min(most, whole(stated, "max_seq_length", LENGTH, least=LEAST_LENGTH))
    tokenizer = folder / TOKENIZER_CONFIG
    known = read_object(tokenizer) if tokenizer.is_file() else {}
    if known.get("model_max_length") is None:
        return most
    return min(most, whole(known, "model_max_length", TOKENIZER_CONFIG, least=LEAST_LENGTH))


def _check_prompts(base: Path) -> None:
    """Refuse a model that puts words of its own in front of every text."""
    stated = read_object(base / PROMPTS) if (base / PROMPTS).is_file() else {}
    _refuse_unknown(stated, (*_PROMPT_FIELDS, _SIMILARITY), PROMPTS)
    if stated.get("default_prompt_name") not in (None, ""):
        raise UnsupportedEmbeddingError(
            f"{PROMPTS} has default_prompt_name {stated['default_prompt_name']!r}, which is put"
            " in front of every text and is not supported"
        )


def _check_normalize(base: Path, modules: list[str]) -> None:
    """Refuse settings of the normalisation, which has none that are understood."""
    for path in modules[2:]:
        file = _inside(base, path) / CONFIG
        if path not in modules[:2] and file.is_file():
            _refuse_unknown(read_object(file), (), "normalisation")


def _refuse_unknown(config: Mapping[str, Any], known: Collection[str], file: str) -> None:
    """Refuse a field that is not known, unless it is empty."""
    for name, value in config.items():
        if name not in known and value not in _EMPTY:
            raise UnsupportedEmbeddingError(f"{file} has {name!r}, which is not understood")


def _text(config: Mapping[str, Any], name: str, file: str) -> str:
    value = config.get(name, "")
    if not isinstance(value, str):
        raise UnsupportedEmbeddingError(f"{file} has no valid {name}: {value!r}")
    return value


def whole(config: Mapping[str, Any], name: str, file: str, *, least: int = 1) -> int:
    """Return a whole number, also one that is written as 1e30. Raises UnsupportedEmbeddingError."""
    value = config.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value < math.inf or value != int(value):
        raise UnsupportedEmbeddingError(f"{file} has no valid {name}: {value!r}")
    return int(value)


def flag(config: Mapping[str, Any], name: str, file: str, *, default: bool) -> bool:
    """Return true or false, null is the default. Raises UnsupportedEmbeddingError."""
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise UnsupportedEmbeddingError(f"{file} has no valid {name}: {value!r}")
    return default if value is None else value
