# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""The tokenizer that OpenVINO made of a GGUF file, for an engine without tokenizer.json."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import plain_text

# How control tokens are written; only entries of this form are looked at, since there can be
# 200,000 of others.
CONTROL = re.compile(rb"<.+>|\[.+\]", re.DOTALL)


class RuntimeTokenizer:
    """`openvino_genai.Tokenizer` as the text module takes it."""

    single_bytes: frozenset[int] = frozenset()  # OpenVINO joins bytes, never a run as a whole

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # As in the file: OpenVINO simplifies some templates for its own engine.
        self.chat_template = str(tokenizer.get_original_chat_template())
        self.named = {
            "bos_token": str(tokenizer.get_bos_token()),
            "eos_token": str(tokenizer.get_eos_token()),
            "pad_token": str(tokenizer.get_pad_token()),
        }
        self.vocabulary = {int(index): text for text, index in tokenizer.get_vocab().items()}
        self.size = 1 + max(self.vocabulary, default=-1)
        control = {
            index: text.decode(errors="replace")
            for index, text in self.vocabulary.items()
            if CONTROL.fullmatch(text) and not self.decode([index])
        }
        self.special = frozenset(control)
        self.special_texts = tuple(control.values())

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""
        ids = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).input_ids
        return [int(token) for token in ids.data[0]]

    def encode_parts(
        self, parts: Sequence[plain_text.Part], *, add_special_tokens: bool
    ) -> list[int]:
        """Return the tokens of a text in parts, of which some have no control tokens.

        OpenVINO finds a control token in any text, so one that a caller wrote is encoded in two
        halves.
        """
        if not any(plain_text.has_any(part, self.special_texts) for part in parts):
            text = "".join(part.text for part in parts)
            return self.encode(text, add_special_tokens=add_special_tokens)
        pieces, text = [], ""
        for part in parts:
            halves = plain_text.cut(part.text, self.special_texts if part.plain else ())
            first, *others = halves
            text += first
            for half in others:
                pieces.append(text)
                text = half
        pieces.append(text)
        tokens: list[int] = []
        for place, piece in enumerate(pieces):
            begins = add_special_tokens and place == 0
            tokens += self.encode(piece, add_special_tokens=begins) if piece else []
        return tokens

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=skip_special))

    def raw(self, token: int) -> bytes:
        """Return the bytes of a token."""
        return bytes(self.vocabulary.get(token, b""))
