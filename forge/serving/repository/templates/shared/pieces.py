# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""The text of an answer in pieces which, joined, are the text of all its tokens at once. Pure.

A character can take several tokens, and a detokenizer shows its first ones as U+FFFD or not at all.
So text is held back until it cannot change: while the last token added none, or only a part of a
character, or is one byte of a run that the detokenizer reads as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

REPLACEMENT = "\ufffd"  # what a part of a UTF-8 character is decoded to


class Decoder(Protocol):
    """Tokens to text."""

    single_bytes: frozenset[int]
    """Tokens of one byte, of which a run is decoded as a whole (SentencePiece's `<0xE2>`)."""
    special: frozenset[int]
    """Tokens that are left out of the text."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""


@dataclass
class Pieces:
    """The tokens of one answer, and how far their text was given out.

    Each call decodes the tokens since `context` only. That is the first token of the piece before,
    so that a detokenizer that treats the first token of a text differently does it both times.
    """

    decoder: Decoder
    tokens: list[int] = field(default_factory=list)
    context: int = 0
    shown: int = 0

    def add(self, tokens: Sequence[int], *, last: bool = False) -> str:
        """Return the text that is final now; with `last`, all that is left."""
        self.tokens.extend(tokens)
        if self.shown == len(self.tokens):
            return ""
        if not last and self._in_run():
            return ""
        before = self.decoder.decode(self.tokens[self.context : self.shown])
        after = self.decoder.decode(self.tokens[self.context :])
        unfinished = after == before or after.endswith(REPLACEMENT) or not after.startswith(before)
        if unfinished and not last:
            return ""
        # Tokens without text of their own must not come first: a special token, for example, takes
        # the place of the token whose leading blank the detokenizer strips.
        if self.decoder.decode(self.tokens[self.shown : self.shown + 1]).strip():
            self.context = self.shown
        self.shown = len(self.tokens)
        return after[len(before) :]

    def _in_run(self) -> bool:
        """Return whether more bytes may follow; special tokens do not end a run of them."""
        if not self.decoder.single_bytes:
            return False
        heard = (one for one in reversed(self.tokens) if one not in self.decoder.special)
        return next(heard, None) in self.decoder.single_bytes


class StopTexts:
    """Finds the texts that end an answer in text that comes in pieces.

    Attributes:
        hit: whether one was found.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.held = ""
        self.hit = False

    def add(self, text: str, *, armed: bool = True, last: bool = False) -> str:
        """Return the text before a stop text; what may begin one is held back unless `last`.

        Args:
            text: the next piece of the answer.
            armed: whether a stop text that ends in this piece ends the answer.
            last: whether nothing follows.
        """
        if not self.texts:
            return text
        if self.hit:
            return ""
        self.held += text
        found = [(p + len(one), p) for one in self.texts if (p := self.held.find(one)) >= 0]
        if found and armed:  # the one that is complete first, however the pieces are cut
            self.hit = True
            return self.held[: min(found)[1]]
        keep = 0 if last else max(map(self._beginning, self.texts))
        shown = self.held[: len(self.held) - keep]
        self.held = self.held[len(shown) :]
        return shown

    def _beginning(self, stop: str) -> int:
        """Return the length of the longest beginning of `stop` that the text ends with."""
        most = min(len(stop) - 1, len(self.held))
        return next((n for n in range(most, 0, -1) if self.held.endswith(stop[:n])), 0)
