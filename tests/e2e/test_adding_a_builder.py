"""docs/how-to/add-a-builder.md, followed to the letter in a copy of this repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "add-a-builder.md").read_text(encoding="utf-8")
FILE = re.compile(r"`([\w./-]+)`[^\n]*:\n\n```\w+\n(.*?)```", re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with the files of the page; its own forge package is the one that runs."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("forge", "pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILE.findall(PAGE):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    environment = folder / "dockerfiles" / "llama-cpp"
    argv = [find_uv_bin(), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    argv += ["--generate-hashes", "requirements.in", "-o", "requirements.lock"]
    subprocess.run(argv, cwd=environment, check=True, timeout=300)
    return folder


def forge(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forge", *command.split()[1:], "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_page_has_the_files_it_speaks_of() -> None:
    paths = [path for path, _ in FILE.findall(PAGE)]
    assert paths == [
        "dockerfiles/llama-cpp/requirements.in",
        "forge/builders/tools/llama_cpp_check.py",
        "forge/builders/llama_cpp.py",
        "profiles/llama.yaml",
    ]


def test_commands_of_the_page_run_and_make_an_engine(copy: Path) -> None:
    commands = re.findall(r"^\$ (forge .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        done = forge(copy, command)
        assert done.returncode == 0, done.stderr
    again = json.loads(forge(copy, commands[1]).stdout)
    assert [row["status"] for row in again if row["step"] == "engine@llama"] == ["hit"]
    (facts,) = (copy / ".forge" / "trees").glob("*/engine.json")
    model = json.loads(facts.read_text())["model"]
    assert (model["architecture"], model["parameters"]) == ("llama", 134515008)


def test_new_builder_refuses_what_it_does_not_know_at_planning_time(copy: Path) -> None:
    url = f"file:/nowhere#sha256={'0' * 64}&architecture=gpt2"
    done = forge(copy, f"forge plan release --profile llama --model {url}")
    assert done.returncode == 3
    assert "Builder llama-cpp of profile 'llama' does not support 'gpt2' models" in done.stderr
