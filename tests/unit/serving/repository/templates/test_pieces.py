"""Text in pieces is the text at once. With real tokenizers: tests/e2e/builders/test_text.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.templates import load

pieces = load("shared", "pieces")
SPECIAL = 300  # tokens below it are bytes
WORDS = {301: " the", 302: "\u2581", 303: "é", 304: "xyz"}


class Decoder:
    """Tokens that are bytes, a special one, and words."""

    special = frozenset({SPECIAL})
    single_bytes: frozenset[int] = frozenset()

    def decode(self, tokens: list[int]) -> str:
        raw = b"".join(self.bytes_of(token) for token in tokens if token != SPECIAL)
        return self.text(raw)

    def bytes_of(self, token: int) -> bytes:
        return bytes([token]) if token < SPECIAL else WORDS[token].encode()

    def text(self, raw: bytes) -> str:
        """A part of a character is U+FFFD, as in the package `tokenizers`."""
        return raw.decode(errors="replace")


class Dropping(Decoder):
    """A part of a character is left out, as OpenVINO does."""

    def text(self, raw: bytes) -> str:
        return raw.decode(errors="ignore")


class Runs(Decoder):
    """A run of bytes is read as a whole, as SentencePiece's decoders do; the first blank goes."""

    single_bytes = frozenset(range(256))

    def decode(self, tokens: list[int]) -> str:
        text, run = "", b""
        for token in [one for one in tokens if one != SPECIAL] + [-1]:
            if 0 <= token < SPECIAL:
                run += bytes([token])
                continue
            text += self.whole(run) + WORDS.get(token, "")
            run = b""
        return text.removeprefix(" ")

    @staticmethod
    def whole(run: bytes) -> str:
        try:
            return run.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(run)


BYTE = st.sampled_from([*"aé€😀".encode(), 0x20, 0xFF, 0xC0])
TOKENS = st.lists(st.one_of(BYTE, st.sampled_from([SPECIAL, *WORDS])), min_size=1, max_size=40)
DECODERS = [Decoder(), Dropping(), Runs()]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda one: type(one).__name__)
@given(tokens=TOKENS, cuts=st.lists(st.integers(1, 4), min_size=40, max_size=40))
def test_pieces_joined_are_the_whole(decoder: Any, tokens: list[int], cuts: list[int]) -> None:
    made, text, rest = pieces.Pieces(decoder), "", list(tokens)
    for count in cuts:
        now, rest = rest[:count], rest[count:]
        if now:
            text += made.add(now, last=not rest)
    assert text == decoder.decode(tokens)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda one: type(one).__name__)
def test_character_of_four_tokens_comes_with_its_last_one(decoder: Any) -> None:
    made = pieces.Pieces(decoder)
    texts = [made.add([one]) for one in "😀".encode()]
    assert texts[:3] == ["", "", ""]
    assert texts[3] + made.add([301]) == "😀 the"


def test_text_that_cannot_change_is_not_held_back() -> None:
    made = pieces.Pieces(Decoder())
    assert [made.add([one]) for one in (301, 0x61, 303)] == [" the", "a", "é"]


@given(
    parts=st.lists(st.text(alphabet="ab-", max_size=4), max_size=12),
    stops=st.lists(st.text(alphabet="ab-", min_size=1, max_size=3), max_size=3),
)
def test_stop_text_is_found_wherever_the_pieces_are_cut(parts: list[str], stops: list[str]) -> None:
    found = pieces.StopTexts(tuple(stops))
    shown = "".join(found.add(part) for part in parts) + found.add("", last=True)
    whole = "".join(parts)
    begins = [whole[:end] for end in range(len(whole) + 1)]
    first = next((one for one in begins if any(stop in one for stop in stops)), None)
    assert found.hit == (first is not None)
    assert shown == (
        whole if first is None else first[: min(first.find(s) for s in stops if s in first)]
    )


def test_what_may_begin_a_stop_text_is_held_back() -> None:
    found = pieces.StopTexts(("END",))
    assert [found.add(one) for one in ("aE", "N", "x", "EN", "D", "more")] == [
        "a",
        "",
        "ENx",
        "",
        "",
        "",
    ]
    assert found.hit
