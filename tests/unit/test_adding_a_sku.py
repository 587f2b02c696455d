"""docs/how-to/add-a-sku.md: the commands that need neither a board nor a download are run."""

import os
import re
import shlex
from pathlib import Path

import pytest

from forge.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "add-a-sku.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ forge (.+)$", PAGE, re.MULTILINE)
HARMLESS = ("plan ", "profile ", "device detect")
RUN_HERE = [command for command in COMMANDS if command.startswith(HARMLESS)]


def test_there_are_commands_to_try() -> None:
    assert len(RUN_HERE) >= 4


@pytest.mark.parametrize("command", RUN_HERE)
def test_command_runs_here(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    for name in [name for name in os.environ if name.startswith("FORGE_PROFILE_")]:
        monkeypatch.delenv(name)
    store = ["--store", str(tmp_path / "store")] if command.startswith("plan ") else []
    assert main([*shlex.split(command), *store]) == 0, capsys.readouterr().err


def test_page_says_what_nobody_ran() -> None:
    headings = re.findall(r"^## \d.*$", PAGE, re.MULTILINE)
    assert [("not run yet" in heading) for heading in headings] == [False] * 4 + [True] * 4


def test_page_names_the_memory_that_the_script_asks_for() -> None:
    from forge.builders.tools.edge_llm_engine import MEMORY_TIMES_WEIGHTS

    assert MEMORY_TIMES_WEIGHTS == 4
    assert "four times the bytes of the weights" in PAGE
