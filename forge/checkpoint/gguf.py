"""A checkpoint of GGUF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from forge.builders.tools.gguf_header import GgufError, GgufHeader, read_parts
from forge.errors import ConfigurationError

__all__ = ["read_model"]

# general.type → what such a file is (gguf's GGUFType, llama.cpp).
_TYPES: Final = {
    "adapter": "a LoRA adapter and not a model",
    "imatrix": "an importance matrix and not a model",
    "mmproj": "the vision part of a model and not a language model",
    "vocab": "a vocabulary without weights",
}
# Architectures of llama.cpp that compute no next token.
_NO_DECODERS: Final = {
    "clip": _TYPES["mmproj"],
    "wavtokenizer-dec": "a speech decoder and not a language model",
    **dict.fromkeys(("t5", "t5encoder"), "an encoder-decoder model, which no builder supports"),
    **dict.fromkeys(
        (
            *("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert"),
            *("modern-bert", "eurobert", "gemma-embedding", "llama-embed"),
        ),
        "an encoder, which makes embeddings and no text",
    ),
}


def read_model(paths: Sequence[Path]) -> GgufHeader:
    """Return the header of a language model of one GGUF file, or of all parts of a split one.

    Raises:
        ConfigurationError: a part is missing or foreign, a file is damaged, or no language model.
        OSError: a file cannot be read.
    """
    try:
        header = read_parts(paths)
    except GgufError as error:
        why, _, hint = str(error).partition("\n  → ")
        raise ConfigurationError("The checkpoint cannot be used", why=why, hint=hint) from None
    kind = header.text("general.type")
    found = _TYPES.get(kind) or _NO_DECODERS.get(header.architecture)
    if found is not None:
        hint = "use a GGUF file of a language model, selected with path= in the URL"
        raise ConfigurationError(f"{header.files[0]} is {found}", hint=hint)
    if not header.model_type:
        raise ConfigurationError(
            f"{header.files[0]} states no architecture",
            why="its metadata have no general.architecture",
            hint="use a GGUF file that llama.cpp's converter wrote",
        )
    return header
