"""Tables at a width: no line is wider than the terminal, no word is cut, nothing gets lost."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.cli.table import StyledText, Tone, lay_out
from forge.wrapping import cells_wide, printable, wrap

ROWS = [
    ("engine@development", "waits", "after checkpoint, which is not in the store of this machine"),
    ("publish", "always", "effect"),
]
HEADER = ("step", "status", "reason")
WORDS = st.text(alphabet="abcxyz-@é漢", min_size=1, max_size=12)
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)


def printed(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    return ["".join(cell.text for cell in line) for line in lay_out(header, rows, width)]


def test_a_table_that_fits_is_columns_with_two_spaces_between_them() -> None:
    assert printed(HEADER, ROWS[1:], 80) == [
        "step     status  reason",
        "publish  always  effect",
    ]


def test_a_long_cell_wraps_below_itself() -> None:
    assert printed(HEADER, ROWS, 60) == [
        "step                status  reason",
        "engine@development  waits   after checkpoint, which is not",
        "                            in the store of this machine",
        "publish             always  effect",
    ]


def test_a_table_without_room_for_columns_is_a_block_for_each_row() -> None:
    assert printed(HEADER, ROWS, 40) == [
        "engine@development",
        "  status  waits",
        "  reason  after checkpoint, which is not",
        "          in the store of this machine",
        "",
        "publish",
        "  status  always",
        "  reason  effect",
    ]


def test_without_a_terminal_a_row_is_one_line() -> None:
    lines = printed(HEADER, [*ROWS, ("x", "run", "a\nb")], None)
    assert len(lines) == 4
    assert lines[1] == f"{ROWS[0][0]}  waits   {ROWS[0][2]}"
    assert lines[3].split() == ["x", "run", "a", "b"]


def test_one_huge_cell_does_not_push_the_others_of_its_column_aside() -> None:
    lines = printed(("field", "value", "from"), [("a", "x" * 900, "p"), ("b", "y", "q")], None)
    assert lines[1].split() == ["a", "x" * 900, "p"]
    assert len(lines[2]) < 80


def test_properties_have_no_title_and_wrap_beside_their_label() -> None:
    assert printed(("", ""), [("requires", "memory and a GPU"), ("on", "x")], 20) == [
        "requires  memory and",
        "          a GPU",
        "on        x",
    ]


def test_a_word_longer_than_the_line_is_whole_and_alone_on_it() -> None:
    url = "s3://bucket/" + "prefix/" * 10
    lines = printed(("bundle", "store"), [("llm", f"from {url} today")], 40)
    assert any(line.strip() == url for line in lines)
    assert all(cells_wide(line) <= 40 for line in lines if url not in line)


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert cells_wide("漢字") == 4
    assert cells_wide("e\N{COMBINING ACUTE ACCENT}") == 1
    lines = printed(("a", "b"), [("漢字", "x"), ("abcd", "x")], 80)
    assert lines[1].startswith("漢字  x")
    assert lines[2].startswith("abcd  x")


def test_control_characters_of_a_cell_do_not_reach_the_terminal() -> None:
    assert printable("\x1b[31mred\x07\r\u202e") == "�[31mred���"
    assert printed(("a",), [("\x1b]0;title",)], 80)[1] == "�]0;title"


def test_a_tone_stays_with_its_cell_on_every_line() -> None:
    rows = [(StyledText("a b c d", Tone.BAD), "x")]
    lines = list(lay_out(("state", "what"), rows, 80))
    assert lines[1][0] == StyledText("a b c d", Tone.BAD)


def test_an_empty_table_shows_its_titles() -> None:
    assert printed(HEADER, [], 80) == ["step  status  reason"]
    assert printed(HEADER, [], 10) == ["step  status  reason"]


@pytest.mark.parametrize("text", ["one\ntwo", "  indented\nnot", ""])
def test_line_breaks_and_indents_of_a_text_are_kept(text: str) -> None:
    assert wrap(text, 80) == text.split("\n")


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4), st.sampled_from([20, 40, 60, 80, 140]))
def test_no_line_is_wider_than_the_terminal_and_every_word_is_printed_whole_and_once(
    rows: list[tuple[str, ...]], width: int
) -> None:
    lines = printed(("n", "value", "from"), rows, width)
    for line in lines:
        assert cells_wide(line) <= width or len(line.split()) == 1
    wanted = Counter(word for row in rows for cell in row for word in cell.split())
    found = Counter(word for line in lines for word in line.split())
    assert not wanted - found
