"""Regular expressions beside Python's own, and lengths that they are fitted to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.templates import load

patterns = load("shared", "json_patterns")
ALPHABET = "ab1 _-.\n"


@given(
    st.sampled_from(
        ["^a*b$", "a|b", "^(a|b)+$", r"^\d?\w\s*$", "[ab]{2}", "^[^a]+$", "^.{1,2}$",
         "^(ab?){2,3}$",
         r"^\S\D\W$", "^(?:a|)b??$", r"^[\w.-]+$", r"^[^\s\d]*$", "^(a|(b|1)*)+$", "a{0}", "^^a$$"]
    ),
    st.text(ALPHABET, max_size=6),
)  # fmt: skip
def test_a_text_matches_as_in_python(pattern: str, text: str) -> None:
    matched = patterns.matches(patterns.parse(pattern), text)
    expected = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    assert matched == expected


@pytest.mark.parametrize("text", ["é", "٣", "\u2003", "一"])
def test_characters_on_which_standards_differ_match_neither_class(text: str) -> None:
    for pattern in (r"^\d$", r"^\w$", r"^\D$", r"^\W$", r"^\s$", r"^[^\d]$", r"^[^\w]$"):
        assert not patterns.matches(patterns.parse(pattern), text)


@pytest.mark.parametrize(
    ("pattern", "width"),
    [("^a$", (1, 1)), ("^a{2,5}b?$", (2, 6)), ("a", (1, None)), ("^(a|bcd|)$", (0, 3)),
     ("^(ab*){0}$", (0, 0)), ("^(a{2}){3,}$", (6, None)), ("^()*$", (0, 0))],
)  # fmt: skip
def test_widths(pattern: str, width: tuple[int, int | None]) -> None:
    assert patterns.width(patterns.parse(pattern)) == width


@pytest.mark.parametrize(
    "pattern",
    ["^[ab]+$", "^a*b*$", "^(ab|c)+$", "^a+-(b{2})*$", "a", "^(a{1,20}){1,2}$", "^a?b?1?$"],
)
@pytest.mark.parametrize(("least", "most"), [(0, 3), (2, 4), (3, None), (4, 4), (0, 0)])
def test_a_fitted_pattern_has_only_texts_of_its_own_with_the_length(
    pattern: str, least: int, most: int | None
) -> None:
    node = patterns.parse(pattern)
    fitted = patterns.fit(node, least, most)
    if fitted is None:
        return
    low, high = patterns.width(fitted)
    assert low >= least
    assert most is None or (high is not None and high <= most)
    for text in ("", "a", "b", "ab", "a-", "aab", "abab", "cab", "a-bb", "aaaa", "bbb", "1", "a1"):
        assert patterns.matches(node, text) or not patterns.matches(fitted, text)


def test_lengths_that_a_pattern_has_are_found() -> None:
    fitted = patterns.fit(patterns.parse("^[a-z]+@[a-z]+$"), 0, 9)
    assert patterns.matches(fitted, "abcd@efgh")
    assert not patterns.matches(fitted, "abcde@fghi")
    assert patterns.fit(patterns.parse("^abc$"), 0, 2) is None
    assert patterns.fit(patterns.parse("^(?:ab)*$"), 3, 3) is None


@pytest.mark.parametrize(
    "pattern", ["(", ")", "a**", "[a", "a{2,1}", "(?<n>a)", "(?!a)", r"\1", r"\Z", r"\u12", "\\",
                "^*", "[b-a]", r"[\d-z]", "a(^b)", "(" * 40 + ")" * 40, r"\ud800"],
)  # fmt: skip
def test_what_no_grammar_has_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"has|ends|repeats|nested"):
        patterns.parse(pattern)
