# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Text to the tokens of an embedding model.

What a caller writes is text: `[SEP]` in it is five characters and no control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TOKENIZER = "tokenizer.json"


class Words:
    """tokenizer.json of an embedding model."""

    def __init__(self, engine: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(engine / TOKENIZER))
        # Files of sentence-transformers cut every text at 128 tokens and fill shorter ones up.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        self.size = self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Return the tokens of each text."""
        whole = [text.encode(errors="replace").decode() for text in texts]  # no half surrogates
        found = self.tokenizer.encode_batch(whole, add_special_tokens=add_special_tokens)
        return [list(one.ids) for one in found]
