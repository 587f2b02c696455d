"""Every command at 60, 80 and 140 columns: no line is wider, no word is cut."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from fcntl import ioctl
from pathlib import Path
from struct import pack
from termios import TIOCSWINSZ

import pytest

from forge.cli import cli, main
from forge.wrapping import cells_wide
from tests.support.captured import CAPTURES
from tests.support.release_world import PASSPHRASE
from tests.support.small_project import SmallProject, small_project

Capture = pytest.CaptureFixture[str]
WIDTHS = (60, 80, 140)
PYTHON = re.compile(r"\b(None|True|False)\b|\[\]|\{\}|<class|<unicode|Traceback|PosixPath")
COMMANDS = [
    line.split()
    for line in f"""
        help
        help device provision
        run release --help
        bundle list
        bundle show 1.1.0
        bundle compare 1.0.0 1.1.0
        bundle show 7.0.0
        diff 1.0.0 1.1.0
        diff stable 7.0.0
        affected openvino
        affected 'pkg:pypi/aiohttp<<3'
        vex 1.0.0 CVE-2026-1 openvino --status fixed
        report demo 1.1.0 -o report
        report demo 1.9.0 -o report
        channels
        promote 9.9.9 stable
        profile list
        profile show tesla-p40
        profile show rtx-pro-4000
        profile show tesla-p4
        profile check-hardware
        profile check-hardware --from {CAPTURES}/thor-jetpack-7.2
        profile check-hardware --from {CAPTURES}/rtx-and-p40
        keys status
        device status --state device
        device history --state device
        device verify --state device
        device detect
        device capture -o board.tar
        device power
        device run --once --state nowhere
        doctor
        images list
        deploy kubernetes
        check
        plan
        plan --profile development
        plan --profile development --against stable
        run --profile development --dry-run
        matrix --profile development
        why smoke@development --profile development
        run --profile development
        run --profile tesla-p40 --fail true
        store test
        store verify
        store gc --dry-run
        cache df
        cache prune --older-than 0 --dry-run
        bundle list --store http://127.0.0.1:9/prod
        bundle lst
        bundle list --stor x
    """.strip().splitlines()
]


@pytest.fixture(scope="module")
def project(module_folder: Path) -> SmallProject:
    return small_project(module_folder)


@pytest.fixture(autouse=True)
def _inside(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("FORGE_CACHE", str(project.root / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(project.root / "uv"))


def shown(command: list[str], capture: Capture) -> list[str]:
    main(command)
    out, err = capture.readouterr()
    return [*out.splitlines(), *err.splitlines()]


def words(lines: list[str]) -> set[str]:
    """What is printed, without figures that change from one run to the next."""
    plain = (word.strip("\\│┃") for line in lines for word in line.split())
    return {word for word in plain if not re.search(r"\d", word)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal_no_word_is_cut_or_of_python(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    if command[0] == "run":
        shown(command, capsys)  # a run stores its results the first time
    lines = shown(command, capsys)
    assert not PYTHON.search("\n".join(lines))
    whole = words(lines)
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        lines = shown(command, capsys)
        assert lines
        too_wide = [
            line for line in lines if cells_wide(line) > width and len(line.strip("→ ").split()) > 1
        ]
        assert not too_wide, width
        assert not words(lines) - whole - {"…"}, width


def test_every_group_and_command_has_help_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for name in cli.list_commands(None):  # type: ignore[arg-type]  # it lists the same in any context
        lines = shown([name, "--help"], capsys)
        wide = [line for line in lines if len(line) > 60 and len(line.strip("\\ ").split()) > 1]
        assert not wide, name


def in_terminal(project: SmallProject, width: int, *command: str, **variables: str) -> str:
    """What a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, pack("HHHH", 24, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    child = subprocess.Popen(
        [sys.executable, "-m", "forge", *command],
        cwd=project.root,
        env=environment | {"TERM": "xterm"} | variables,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the last one who could write has left
            break
        found += data
    os.close(ours)
    child.wait()
    return found.decode()


def test_a_terminal_has_colours_for_states_and_its_own_width(project: SmallProject) -> None:
    text = in_terminal(project, 60, "doctor")
    assert "\x1b[32mok\x1b[0m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, plain)) <= 60
    assert "\x1b" not in in_terminal(project, 60, "doctor", NO_COLOR="1")


def test_a_run_on_a_terminal_draws_no_line_wider_than_it(project: SmallProject) -> None:
    text = in_terminal(project, 60, "run", "--profile", "jetson-agx-orin", "--version", "2.0.0")
    assert "✔ engine@jetson-agx-orin" in text
    assert "echo made" not in text  # the command of the step
    drawn = re.split(r"\r|\n|\x1b\[[0-9;?]*[A-Za-z]", text)
    assert max(map(cells_wide, drawn)) <= 60


def test_commands_of_steps_are_shown_with_v(project: SmallProject) -> None:
    run = ("run", "--profile", "jetson-agx-thor", "--version", "2.0.0")
    assert "+ sh -ceu" not in project.run(*run).stderr
    assert "+ sh -ceu" in project.run(*run, "--version", "2.0.1", "-v").stderr
