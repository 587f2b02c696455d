"""The three looks of a run."""

import io
from collections.abc import Mapping

import pytest

from forge.runners.view import GitHubView, PlainView, RichView, View, choose


class Terminal(io.StringIO):
    """An output that is a terminal."""

    def isatty(self) -> bool:
        return True


def play(view: View) -> None:
    with view.live():
        view.hit("a", "in the store")
        view.started("b", "compile x")
        view.line("b", "layer 1")
        view.note("b", "environment is made")
        view.finished("b", 1.25, "engine 123")
        view.started("c", "measure")
        view.line("c", "[red]50%[/red]")
        view.failed("c", 2.0, "exit code 1")


PLAIN = """\
= a: in the store
▶ b
  b: environment is made
✔ b 1.2 s engine 123
▶ c
✘ c 2.0 s exit code 1
"""


def test_plain_lines_leave_out_what_a_command_prints() -> None:
    out = io.StringIO()
    play(PlainView(out))
    assert out.getvalue() == PLAIN


def test_verbose_plain_lines_show_what_a_command_prints() -> None:
    out = io.StringIO()
    play(PlainView(out, verbose=True))
    assert "  b | layer 1\n" in out.getvalue()
    assert "  c | [red]50%[/red]\n" in out.getvalue()
    assert "  + compile x\n" in out.getvalue()
    extra = (" | ", "  + ")
    rest = [one for one in out.getvalue().splitlines(keepends=True) if not any(
        mark in one for mark in extra)]  # fmt: skip
    assert "".join(rest) == PLAIN


def test_github_folds_the_lines_of_a_step_and_flags_a_failure() -> None:
    out = io.StringIO()
    play(GitHubView(out))
    assert out.getvalue() == (
        "= a: in the store\n"
        "  b: environment is made\n"
        "::group::✔ b 1.2 s engine 123\n+ compile x\nlayer 1\n::endgroup::\n"
        "::group::✘ c 2.0 s\n+ measure\n[red]50%[/red]\n::endgroup::\n"
        "::error title=c::exit code 1\n"
    )


def test_github_keeps_steps_that_run_at_once_apart() -> None:
    out = io.StringIO()
    view = GitHubView(out)
    for step in ("a", "b"):
        view.started(step, step)
    for step in ("a", "b", "a"):
        view.line(step, f"of {step}")
    view.finished("b", 1, "")
    view.finished("a", 1, "")
    groups = out.getvalue().split("::endgroup::")
    assert groups[0].count("of b") == 1
    assert "of a" not in groups[0]
    assert groups[1].count("of a") == 2


def test_error_of_several_lines_stays_one_command_of_github() -> None:
    out = io.StringIO()
    GitHubView(out).failed("a", 1, "50% done\r\nthen killed")
    assert out.getvalue().splitlines()[-1] == "::error title=a::50%25 done%0D%0Athen killed"


def test_terminal_shows_the_same_events() -> None:
    out = Terminal()
    play(RichView(out))
    for line in PLAIN.splitlines():
        assert line.startswith("▶") or line in out.getvalue()
    assert "compile x" not in out.getvalue()


def test_progress_in_a_log_is_a_line_each_ten_seconds_for_each_step() -> None:
    out, now = io.StringIO(), [0.0]
    view = PlainView(out, clock=lambda: now[0])
    for second in range(25):
        now[0] = second
        view.progress("a", f"{second} MB")
    view.progress("b", "first")
    assert out.getvalue().splitlines() == ["  a: 10 MB", "  a: 20 MB"]


def test_progress_is_beside_the_spinner_and_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    view = RichView(Terminal())
    with view.live():
        view.progress("engine@development", "installing: Downloading torch (190.9MiB), 34 s")
        view.started("engine@development", "compile")
        (task,) = view._progress.tasks
        assert task.fields["last"] == "installing: Downloading …"
        view.finished("engine@development", 1, "")
    assert not view._progress.tasks


@pytest.mark.parametrize("kind", [PlainView, RichView])
def test_no_line_of_a_run_is_wider_than_the_terminal(
    kind: type[PlainView | RichView], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    view = kind(out)
    text = "a reason of many words that says why this step must run again on this machine"
    view.hit("engine@development", text)
    view.note("engine@development", text)
    view.finished("engine@development", 2, text)
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert out.getvalue().split().count("machine") == 3


@pytest.mark.parametrize("text", ["[/bold]", "[red]50%[/blue]", "[", "]"])
def test_brackets_of_a_command_are_not_markup_of_the_terminal(text: str) -> None:
    view = RichView(Terminal())
    with view.live():
        view.started("a", text)
        view.line("a", text)
        view._progress.refresh()  # draws the line: markup that is not valid would raise
        view.finished("a", 1, text)


@pytest.mark.parametrize(
    ("terminal", "environment", "verbose", "kind"),
    [
        (False, {}, False, PlainView),
        (False, {}, True, PlainView),
        (True, {}, False, RichView),
        (True, {"TERM": "xterm"}, False, RichView),
        (True, {"TERM": "dumb"}, False, PlainView),
        (True, {}, True, PlainView),
        (True, {"GITHUB_ACTIONS": "true"}, False, GitHubView),
        (False, {"GITHUB_ACTIONS": "true"}, True, GitHubView),
        (False, {"GITHUB_ACTIONS": "false"}, False, PlainView),
    ],
)
def test_look_follows_the_output_and_the_environment(
    terminal: object, environment: Mapping[str, str], verbose: object, kind: type
) -> None:
    out = Terminal() if terminal else io.StringIO()
    assert type(choose(out, environment, verbose=bool(verbose))) is kind
