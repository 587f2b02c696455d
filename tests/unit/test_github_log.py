"""No text in GitHub's log is a command unless Forge means it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forge.github_log import escape, escape_property, inert
from forge.runners.view import GitHubView

# The runner's own rules: ActionCommand.TryParseV2 takes a line that, without leading white space,
# begins with "::"; TryParse takes "##[" anywhere in a line. StreamReader.ReadLine ends lines at
# \r, \n and \r\n.
LINES = re.compile(r"\r\n|\r|\n")


def commands(text: str) -> list[str]:
    """The lines of a log that the runner would execute."""
    lines = LINES.split(text)
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


ATTACKS = [
    "::set-output name=matrix::x",
    "::add-mask::e",
    "::stop-commands::token",
    "  \t::warning::x",
    "\u00a0\u2003::error::x",
    "50%\r::add-mask::e",
    "x\n::add-mask::e\ny",
    "x\r\n::add-mask::e",
    "##[add-mask]e",
    "some text ##[set-env name=PATH]/tmp",
    ":::::",
    "##[##[group]x",
    "\x0b::debug::x",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_command_becomes_text_that_can_still_be_read(text: str) -> None:
    assert commands(text)
    safe = inert(text)
    assert commands(safe) == []
    assert re.sub(r"\s", "", safe) == re.sub(r"\s", "", text)
    assert inert(safe) == safe


@pytest.mark.parametrize(
    "text", ["", "a::b", "std::vector", "# [x]", ": x", "a\n\n  b", "[1/2] ok"]
)
def test_other_text_is_unchanged(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize("text", ATTACKS)
def test_step_cannot_write_a_command_by_any_event(text: str) -> None:
    out = io.StringIO()
    view = GitHubView(out)
    view.hit(text, text)
    view.started("a", text)
    view.line("a", text)
    view.note("a", text)
    view.finished("a", 1.0, text)
    view.line("b", text)
    view.failed("b", 1.0, text)
    found = commands(out.getvalue())
    assert [one.split("::")[1].split()[0] for one in found] == [
        "group", "endgroup", "group", "endgroup", "error",
    ]  # fmt: skip
    assert not [one for one in found if "##[" in one]


def test_properties_and_messages_of_a_command_stay_in_their_place() -> None:
    assert escape("50%\r\n::x") == "50%25%0D%0A::x"
    assert escape_property("a,file=x::y") == "a%2Cfile=x%3A%3Ay"
    out = io.StringIO()
    GitHubView(out).failed("a::x,file=y", 1.0, "m")
    assert out.getvalue().splitlines()[-1] == "::error title=a%3A%3Ax%2Cfile=y::m"


@pytest.mark.parametrize("actions", [True, False])
def test_error_that_quotes_a_command_is_no_command(tmp_path: Path, *, actions: bool) -> None:
    name = "\n::add-mask::e"
    done = subprocess.run(
        [sys.executable, "-m", "forge", "bundle", "list", "--store", f"{tmp_path}/{name}"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        | ({"GITHUB_ACTIONS": "true"} if actions else {}),
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 9
    assert bool(commands(done.stderr)) is not actions
    assert "add-mask" in done.stderr
