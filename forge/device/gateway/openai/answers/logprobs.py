"""Logarithms of tokens' probabilities in OpenAI's two shapes. Pure.

A chat lists one object for each token; a completion has one list for each property. A logarithm
that JSON cannot write, of a probability of 0, is -9999, as OpenAI's API writes it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from forge.canonical import Json
from forge.serving.triton.stream import TokenLogprob

__all__ = ["CompletionLogprobs", "chat_logprobs", "content_logprobs"]

_LEAST = -9999.0


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Json]:
    """Return a chat choice's `logprobs`."""
    return {"content": content_logprobs(tokens), "refusal": None}


def content_logprobs(tokens: Iterable[TokenLogprob]) -> list[Json]:
    """Return one object for each token, with its likeliest alternatives."""
    return [{**_one(token), "top_logprobs": [_one(top) for top in token.top]} for token in tokens]


class CompletionLogprobs:
    """Makes the `logprobs` of one completion choice, whose text may come in pieces.

    Args:
        offset: where the next token begins in the choice's text; below 0 if the first tokens, such
            as one that begins every text, are not part of it.
    """

    def __init__(self, offset: int = 0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = offset

    def of(self, tokens: Iterable[TokenLogprob]) -> dict[str, Json]:
        """Return the lists for the next tokens."""
        return self.of_named([(one.token, one) for one in tokens])

    def of_named(self, tokens: Sequence[tuple[str, TokenLogprob | None]]) -> dict[str, Json]:
        """Return the lists for tokens whose texts are given; None: it has no logarithm."""
        offsets: list[Json] = []
        for text, one in tokens:
            offsets.append(max(self._offset, 0))
            self._offset += len(self._decoder.decode(one.raw) if one and one.raw else text)
        return {
            "tokens": [text for text, _ in tokens],
            "token_logprobs": [_finite(one.logprob) if one else None for _, one in tokens],
            "top_logprobs": [_alternatives(one) if one else None for _, one in tokens],
            "text_offset": offsets,
        }


def _alternatives(token: TokenLogprob) -> dict[str, Json]:
    """Return the likeliest tokens and this one, which need not be among them."""
    found: dict[str, Json] = {}
    for one in (*token.top, token):
        found.setdefault(one.token, _finite(one.logprob))  # halves of characters share a text
    return found


def _one(token: TokenLogprob) -> dict[str, Json]:
    return {
        "token": token.token,
        "logprob": _finite(token.logprob),
        "bytes": list(token.raw),
    }


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
