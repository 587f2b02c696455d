"""Tables and texts in Markdown."""

from __future__ import annotations

import pytest

from forge.markdown import table

HEADER = ("step", "status")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\n| c |", r"a \| c \|"),
        ("<img src=x>", "&lt;img src=x>"),
        ("[here](javascript:x)", r"\[here](javascript:x)"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_no_text_leaves_its_cell_or_becomes_a_link(text: str, shown: str) -> None:
    assert table(("a",), [(text,)]).splitlines()[-1] == f"| {shown} |"


def test_long_table_says_how_much_it_leaves_out() -> None:
    assert table(HEADER, [("a", "b")] * 502).endswith("… and 2 more\n")
