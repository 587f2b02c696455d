"""Stop strings in text that comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.gateway.openai.stop_sequences import StopSequenceFilter


@pytest.mark.parametrize(
    ("stops", "pieces", "shown"),
    [
        ((), ["a", "b"], "ab"),
        (("\n",), ["one", "\ntwo"], "one"),
        (("END",), ["the E", "N", "D of it"], "the "),
        (("END",), ["the E", "N", "T"], "the ENT"),
        (("aab",), ["aaa", "ab!"], "aa"),
        (("b", "abc"), ["xab", "c"], "xa"),
        (("END",), ["nearly EN"], "nearly EN"),
    ],
)
def test_nothing_of_a_stop_string_is_shown(
    stops: tuple[str, ...], pieces: list[str], shown: str
) -> None:
    found = StopSequenceFilter(stops)
    text = "".join(found.feed(piece) for piece in pieces)
    assert text + found.rest() == shown


@given(
    st.lists(st.text("abc", max_size=4), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
)
def test_pieces_show_what_the_whole_would(pieces: list[str], stops: list[str]) -> None:
    found = StopSequenceFilter(tuple(stops))
    shown = ""
    for piece in pieces:
        shown += found.feed(piece)
        assert all(stop not in shown for stop in stops)
        if found.hit:
            break
    shown += found.rest()
    whole = "".join(pieces)
    assert whole.startswith(shown)
    assert found.hit == any(stop in whole for stop in stops)
    assert found.hit or shown == whole
