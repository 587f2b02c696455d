"""Texts that several globs match, held against fnmatch itself."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.profiles.globs import common_texts

# What a text can be made of so that no glob below tells more characters apart.
LETTERS = "abc-]![x"
GLOBS = st.text(alphabet="abc*?[]!-", max_size=6)


@pytest.mark.parametrize(
    ("globs", "shortest"),
    [
        (("NVIDIA Thor", "NVIDIA Thor"), "NVIDIA Thor"),
        (("NVIDIA RTX*", "*Blackwell"), "NVIDIA RTXBlackwell"),
        (("a*b*c", "*x*"), "abxc"),
        (("[abc]?", "[!ab]x"), "cx"),
        (("[a-c]z", "[b-d]*"), "bz"),
        (("[", "?"), "["),
        (("[]]", "*"), "]"),
        (("[a-c]", "[!ac]"), "b"),
        (("*", ""), ""),
        (("é*", "?"), "é"),
    ],
)
def test_the_shortest_text_of_both(globs: tuple[str, str], shortest: str) -> None:
    assert next(common_texts(globs)) == shortest


@pytest.mark.parametrize(
    "globs",
    [("a*", "b*"), ("a", "aa"), ("?", "??*"), ("[a-c]", "[d-f]"), ("[!a]", "a"), ("A", "a"),
     ("*x", "*y"), ("[b-a]", "*")],
)  # fmt: skip
def test_globs_without_a_common_text(globs: tuple[str, str]) -> None:
    assert list(islice(common_texts(globs), 1)) == []


@given(GLOBS, GLOBS)
def test_it_finds_one_exactly_where_trying_all_short_texts_does(first: str, second: str) -> None:
    found = list(islice(common_texts((first, second)), 5))
    for text in found:
        assert fnmatchcase(text, first)
        assert fnmatchcase(text, second)
    short = ("".join(text) for size in range(4) for text in product(LETTERS, repeat=size))
    tried = next((text for text in short if fnmatchcase(text, first) and fnmatchcase(text, second)),
                 None)  # fmt: skip
    if tried is not None:
        assert found
        assert len(found[0]) <= len(tried)


@given(GLOBS)
def test_a_glob_has_a_text_in_common_with_each_text_that_it_matches(glob: str) -> None:
    for text in islice(common_texts((glob,)), 3):
        literal = "".join(f"[{one}]" if one in "*?[" else one for one in text)
        assert list(common_texts((glob, literal))) == [text]


def test_of_texts_that_no_glob_tells_apart_a_few_come() -> None:
    """The first may be the name of a part of a GPU, which detection takes for something else."""
    found = list(common_texts(("A?", "*")))
    assert sorted(found) == ["A0", "AA"]


def test_many_stars_take_no_time_of_their_own() -> None:
    assert next(common_texts(("*a" * 30 + "b*", "*b" * 30 + "a*")))
