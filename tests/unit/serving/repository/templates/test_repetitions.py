"""Counted repetitions add up beside each other and multiply inside of each other."""

from __future__ import annotations

import pytest

from tests.support.templates import load

repetitions = load("shared", "repetitions")


@pytest.mark.parametrize(
    ("kind", "text", "count"),
    [
        ("regex", "abc", 0),
        ("regex", "a{10}", 10),
        ("regex", r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{1,6}$", 20),
        ("regex", "[a-f]{8}-[a-f]{4}-[a-f]{4}-[a-f]{4}-[a-f]{12}", 32),
        ("regex", "(a{10}){20}", 200),
        ("regex", "((a{10}b{5}){3}c{2}){4}", 4 * (3 * 15 + 2)),
        ("regex", "(a{10})b{20}", 30),
        ("regex", "(a{10})+{20}", 200),
        ("regex", "(a{10}|b{20}){2}", 60),
        ("regex", "a{10}{20}", 200),
        ("regex", "(?:ab){100,}", 100),
        ("regex", "a{0,300}", 300),
        ("regex", "a{0}", 1),
        ("regex", r"\(a{10}\){20}", 30),
        ("regex", "[(]a{10}[)]{20}", 30),
        ("regex", r"[\](]{3}", 3),
        ("regex", '"(a{10}){20}"', 200),
        ("regex", "(a{10}", 10),
        ("regex", "a{99999999999999999999}", 999999999),
        ("grammar", 'root ::= ("x"{10} "y"{5}){4}', 60),
        ("grammar", 'root ::= "(a{10}){20}"', 0),
        ("grammar", 'root ::= "\\"{9}"{2} [{9}(]{3}', 5),
        ("grammar", 'root ::= a{60}\na ::= "x"{60}', 120),
    ],
)
def test_repetitions_are_counted_as_they_are_written_out(kind: str, text: str, count: int) -> None:
    assert repetitions.written_out(kind, text) == count


def test_many_small_counts_beside_each_other_are_allowed_and_nested_ones_refused() -> None:
    repetitions.check_repetitions("regex", "a{16}" * 256)
    repetitions.check_repetitions("regex", "(a{64}){64}")
    for text in ("a{4097}", "(a{64}){65}", "a{16}" * 257, "((a{16}){16}){17}"):
        with pytest.raises(repetitions.RequestError, match="at most 4096"):
            repetitions.check_repetitions("regex", text)
