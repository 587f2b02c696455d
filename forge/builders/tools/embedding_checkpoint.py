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
from collections.abc import Mapping
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
    width = _whole(config, "hidden_size", CONFIG)
    pooling = _pooling(read_object(_inside(base, modules[1]) / CONFIG), width)
    _check_prompts(base)
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
    entries = sorted(entries, key=lambda one: int(one.get("idx", 0)))
    kinds = [str(one.get("type", "")) for one in entries]
    for wanted, found in zip(("Transformer", POOLING, NORMALIZE), kinds, strict=False):
        if not found.startswith("sentence_transformers.") or found.rpartition(".")[2] != wanted:
            raise UnsupportedEmbeddingError(
                f"{MODULES} names {found!r} where a {wanted} is supported\n"
                "  → use a model of Transformer, Pooling and, if it has it, Normalize"
            )
    if not 2 <= len(kinds) <= 3:  # noqa: PLR2004
        raise UnsupportedEmbeddingError(f"{MODULES} has {len(kinds)} modules; 2 or 3 are supported")
    return [str(one.get("path", "")) for one in entries]


def _inside(base: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise UnsupportedEmbeddingError(f"{MODULES} names the path {path!r}")
    return base / path


def _pooling(config: Mapping[str, Any], width: int) -> str:
    """Return the name of the pooling. Raises UnsupportedEmbeddingError for another one."""
    for name in _WIDTHS:
        if config.get(name, width) != width:
            message = f"pooling has {name} {config[name]} and the transformer {width} dimensions"
            raise UnsupportedEmbeddingError(message)
    if not config.get("include_prompt", True):
        raise UnsupportedEmbeddingError("pooling without the prompt's tokens is not supported")
    modes = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    if "pooling_mode" in config:  # as sentence-transformers 5.3 writes it
        stated = config["pooling_mode"]
        names = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
        modes = [names.get(str(stated), str(stated))]
    known = ("include_prompt", "pooling_mode", *_WIDTHS)
    unknown = [one for one in config if one not in known and not one.startswith("pooling_mode_")]
    if unknown:
        raise UnsupportedEmbeddingError(f"pooling has {unknown[0]!r}, which is not understood")
    if len(modes) != 1 or modes[0] not in POOLINGS:
        found = " and ".join(modes) or "none"
        raise UnsupportedEmbeddingError(
            f"pooling is {found}; supported is one of {', '.join(POOLINGS)}"
        )
    return POOLINGS[modes[0]]


def _longest(folder: Path, config: Mapping[str, Any]) -> int:
    """Return the longest text, as sentence-transformers finds it, tokens."""
    most = _whole(config, "max_position_embeddings", CONFIG)
    stated = read_object(folder / LENGTH) if (folder / LENGTH).is_file() else {}
    if stated.get("do_lower_case"):
        raise UnsupportedEmbeddingError(f"{LENGTH} has do_lower_case, which is not supported")
    unknown = [one for one in stated if one not in ("max_seq_length", "do_lower_case")]
    if unknown:
        raise UnsupportedEmbeddingError(f"{LENGTH} has {unknown[0]!r}, which is not understood")
    length = stated.get("max_seq_length")
    if length is None and (folder / TOKENIZER_CONFIG).is_file():
        length = read_object(folder / TOKENIZER_CONFIG).get("model_max_length")
    return min(most, int(length)) if isinstance(length, int | float) and length >= 1 else most


def _check_prompts(base: Path) -> None:
    """Refuse a model that puts words of its own in front of every text."""
    stated = read_object(base / PROMPTS) if (base / PROMPTS).is_file() else {}
    if stated.get("default_prompt_name"):
        raise UnsupportedEmbeddingError(
            f"{PROMPTS} has default_prompt_name {stated['default_prompt_name']!r}, which is put"
            " in front of every text and is not supported"
        )


def _whole(config: Mapping[str, Any], name: str, file: str) -> int:
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise UnsupportedEmbeddingError(f"{file} has no valid {name}: {value!r}")
    return value
