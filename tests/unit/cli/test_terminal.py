"""What a terminal gets: its width, colours, errors."""

import io
import os
import re
import sys
from pathlib import Path

import pytest

from forge.cli.table import StyledText, Tone
from forge.cli.terminal import colours, headline, print_error, print_table, print_text
from forge.errors import StepFailedError, StoreError
from forge.wrapping import shown_width

ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = {"docs/gguf.md", "docs/introduction/compatibility.md",
             "docs/user_guide/metrics.md"}  # of ggml and of Triton  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, None), ({"COLUMNS": "60"}, 60), ({"COLUMNS": "x"}, None), ({"COLUMNS": "0"}, None),
     ({"COLUMNS": "3"}, 20)],
)  # fmt: skip
def test_a_pipe_has_the_width_of_columns_or_none(
    environment: dict[str, str], expected: int | None
) -> None:
    assert shown_width(io.StringIO(), environment) == expected


def test_a_terminal_has_its_own_width() -> None:
    import pty
    from fcntl import ioctl
    from struct import pack
    from termios import TIOCSWINSZ

    main, side = pty.openpty()
    ioctl(side, TIOCSWINSZ, pack("HHHH", 24, 123, 0, 0))
    with os.fdopen(side, "w") as out:
        assert shown_width(out, {}) == 123
        assert shown_width(out, {"COLUMNS": "70"}) == 70
    os.close(main)


@pytest.mark.parametrize(
    ("out", "environment", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "0"}, False),
    ],
)
def test_colours_are_for_terminals_unless_the_user_says_otherwise(
    out: io.StringIO, environment: dict[str, str], *, expected: bool
) -> None:
    assert colours(out, environment) is expected


def test_states_are_coloured_and_the_width_counts_no_colour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(("state", "what"), [(StyledText("ok", Tone.GOOD), "git")])
    assert capsys.readouterr().out.splitlines()[1] == "\x1b[32mok\x1b[0m     git"


def test_a_cause_of_one_line_follows_and_wraps_and_the_hint_is_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    error = StoreError(
        "s3://bundles cannot be reached",
        why="the name bundles.example was not found by any server",
        hint="check the address and the network of this machine",
    )
    print_error(error)
    assert capsys.readouterr().err.splitlines() == [
        "Error: s3://bundles cannot be reached:",
        "  the name bundles.example was not found",
        "  by any server",
        "  → check the address and the network of",
        "    this machine",
    ]


def test_a_cause_of_several_lines_is_a_block_and_a_log_keeps_its_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    log = "\n  | first\n  |   an indented line of the log that is long"
    print_error(StepFailedError("Step x failed", why=log, hint="read the log"))
    assert capsys.readouterr().err.splitlines() == [
        "Error: Step x failed",
        "  | first",
        "  |   an indented line of the log that",
        "  |     is long",
        "  → read the log",
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("5 prompts were answered: \nprompt  expected\nA?      B", "5 prompts were answered"),
        ("too slow", "too slow"),
        ("http://10.0.0.1:80/x failed", "http://10.0.0.1:80/x failed"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_headline_is_the_first_line_of_a_reason(text: str, first: str) -> None:
    assert headline(text) == first


def test_texts_are_wrapped_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_text("one two three four five six")
    assert capsys.readouterr().out == "one two three four\nfive six\n"
    assert sys.stdout.isatty() is False


def test_a_page_in_a_hint_is_a_file_that_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    print_error(StoreError("x", hint="docs/no/such.md"))
    assert "→ docs/no/such.md" in capsys.readouterr().err
    print_error(StoreError("x", hint="docs/reference/profile.md"))
    shown = capsys.readouterr().err.split("→ ")[1].strip()
    assert Path(shown).is_file()
    monkeypatch.chdir(ROOT)
    print_error(StoreError("x", hint="docs/reference/profile.md"))
    assert "→ docs/reference/profile.md" in capsys.readouterr().err


def test_every_page_that_forge_names_exists() -> None:
    named = {
        page
        for path in (ROOT / "forge").rglob("*.py")
        for page in re.findall(r"\bdocs/[a-z0-9_/-]+\.md\b", path.read_text())
        if page not in ELSEWHERE
    }
    assert named
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []
