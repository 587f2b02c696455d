# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""A caller's text stays text: control tokens in it are encoded as the letters they consist of.

A chat template mixes its own control tokens with what callers wrote. So before it is rendered, each
text of a control token in messages and tools is replaced by a mark; the marks show in the rendered
prompt which parts came from the caller.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Tokens that are not called special and yet separate turns, such as DeepSeek's for the user. Others
# that a template writes, such as <think>, people and models write as well.
SEPARATOR = re.compile(r"<[|｜].+[|｜]>", re.DOTALL)  # noqa: RUF001 - DeepSeek's letters
MARK = "\uf8fe"  # of the private use area, around a random number
OWN = "\uf8ff"  # the same, around the id of a control token


@dataclass(frozen=True)
class Part:
    """A part of a prompt; a plain one has no control tokens, even if it has their letters."""

    text: str
    plain: bool


class Marks:
    """Marks in place of the control tokens that a caller wrote."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.pattern = pattern(texts)
        self.nonce = secrets.token_hex(8)
        self.texts: list[str] = []

    def put(self, value: Any) -> Any:
        """Return messages or tools with marks in all of their texts but the roles."""
        if isinstance(value, str):
            return self.pattern.sub(self._mark, value) if self.pattern else value
        if isinstance(value, list):
            return [self.put(one) for one in value]
        if isinstance(value, dict):
            return {
                self.put(key): one if key == "role" else self.put(one) for key, one in value.items()
            }
        return value

    def parts(self, prompt: str) -> tuple[Part, ...]:
        """Return the rendered prompt in parts; the marks are what they stand for again."""
        if not self.texts:
            return (Part(prompt, plain=False),)
        found = re.split(f"{MARK}{self.nonce}:([0-9]+){MARK}", prompt)
        return tuple(
            Part(self.texts[int(one)] if place % 2 else one, plain=bool(place % 2))
            for place, one in enumerate(found)
        )

    def _mark(self, match: re.Match[str]) -> str:
        self.texts.append(match[0])
        return f"{MARK}{self.nonce}:{len(self.texts) - 1}{MARK}"


class GuardedTokenizer:
    """A copy of a tokenizer that finds control tokens only where it is told to.

    In the copy each control token has a second one that is matched as it was, written in a way that
    no text is; the first one is not matched any more.

    Args:
        tokenizer: of the package `tokenizers`.
        special: its control tokens by id.
    """

    def __init__(self, tokenizer: Any, special: Mapping[int, Any]) -> None:
        from tokenizers import AddedToken, Tokenizer

        nonce = secrets.token_hex(8)
        self.pattern = pattern(tuple(token.content for token in special.values()))
        self.copy = Tokenizer.from_str(tokenizer.to_str())
        self.copy.no_truncation()
        self.copy.no_padding()
        self.copy.encode_special_tokens = True
        texts = {index: f"{OWN}{nonce}:{index}{OWN}" for index in special}
        second, first = [], []
        for index, token in special.items():
            flags = {name: getattr(token, name) for name in ("single_word", "lstrip", "rstrip")}
            second.append(AddedToken(texts[index], normalized=False, special=False, **flags))
            if not token.special:  # only special ones are left unmatched
                flags["normalized"] = token.normalized
                first.append(AddedToken(token.content, special=True, **flags))
        self.copy.add_special_tokens(first)
        self.copy.add_tokens(second)  # at once: each call builds the matcher again
        self.own = {token.content: texts[index] for index, token in special.items()}
        self.original = {self.copy.token_to_id(texts[index]): index for index in special}

    def encode(self, parts: Sequence[Part], *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text in parts."""
        text = "".join(part.text if part.plain else self._matched(part.text) for part in parts)
        ids = self.copy.encode(text, add_special_tokens=add_special_tokens).ids
        return [self.original.get(one, one) for one in ids]

    def _matched(self, text: str) -> str:
        return self.pattern.sub(lambda match: self.own[match[0]], text) if self.pattern else text


@functools.lru_cache(maxsize=8)
def pattern(texts: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return a pattern of these texts, the longest first; None if there are none."""
    found = frozenset(filter(None, texts))
    return re.compile(_any_of(found)) if found else None


def _any_of(texts: frozenset[str]) -> str:
    """Return a regex that reads each letter once: of 1000 texts, one after the other is slow.

    A caller could otherwise stop the model for many seconds with a text of nothing but "<".
    """
    branches = []
    for letter in sorted({text[0] for text in texts if text}):
        same = letter
        rests = frozenset(text[1:] for text in texts if text.startswith(letter))
        while "" not in rests and len(following := {rest[0] for rest in rests}) == 1:
            same += following.pop()
            rests = frozenset(rest[1:] for rest in rests)
        branches.append(re.escape(same) + (_any_of(rests) if rests != {""} else ""))
    either = f"(?:{'|'.join(branches)})"
    return f"{either}?" if "" in texts else either


def has_any(part: Part, texts: tuple[str, ...]) -> bool:
    """Return whether a plain part contains one of the texts."""
    found = pattern(texts)
    return part.plain and found is not None and found.search(part.text) is not None


def cut(text: str, texts: tuple[str, ...]) -> Iterator[str]:
    """Yield a text in pieces, of which none contains one of the texts: each is cut in two."""
    start = 0
    found = pattern(texts)
    for match in found.finditer(text) if found else ():
        middle = match.start() + max(1, len(match[0]) // 2)
        yield text[start:middle]
        start = middle
    yield text[start:]
