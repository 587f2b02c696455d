"""Texts of control tokens: how they are found. With real tokenizers: tests/e2e/builders."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.templates import load

plain_text = load("shared", "plain_text")
TEXTS = st.lists(st.text(alphabet="<|ab>.*", min_size=1, max_size=6), min_size=1, max_size=12)


@given(texts=TEXTS, text=st.text(alphabet="<|ab>.*", max_size=40))
def test_the_longest_text_is_found_at_each_place(texts: list[str], text: str) -> None:
    longest_first = sorted(texts, key=len, reverse=True)
    reference = re.compile("|".join(map(re.escape, longest_first)))
    found = plain_text.pattern(tuple(texts))
    assert found.findall(text) == reference.findall(text)
    assert plain_text.has_any(plain_text.Part(text, plain=True), tuple(texts)) == any(
        one in text for one in texts
    )


def test_a_prompt_of_beginnings_of_control_tokens_takes_no_longer_than_another() -> None:
    """One regex branch for each token took 25 s for 800 kB with the tokens of Mistral NeMo."""
    texts = tuple(f"<SPECIAL_{number}>" for number in range(1000))
    began = time.process_time()
    marks = plain_text.Marks(texts)
    assert marks.put("<" * 800_000) == "<" * 800_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["<｜User｜>", "<|im_start|>", "<｜tool▁calls▁begin｜>"])  # noqa: RUF001
def test_separators_of_turns_have_bars(text: str) -> None:
    assert plain_text.SEPARATOR.fullmatch(text)


@pytest.mark.parametrize("text", ["<think>", "<tool_call>", "\n\n", "<||>", "<s>"])
def test_what_people_and_models_write_too_is_no_separator(text: str) -> None:
    assert not plain_text.SEPARATOR.fullmatch(text)
