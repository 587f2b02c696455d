"""The check of words that prose does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = "The agent works anew,\nand anew. Nobody waits.\n"
MODULE = '''
"""Start anew."""
anew = 1  # a name, and not prose
# This is no
# name; there is no other, there
# is no more.
print(f"Wishes: {anew}", "is " "no")
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".config").mkdir()
    (tmp_path / "forge").mkdir()
    (tmp_path / "forge" / "module.py").write_text(MODULE)
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def check(repository: Path, words: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (repository / ".config/words.txt").write_text(f"# Words\n{words}\n")
    argv = [sys.executable, str(ROOT / "scripts/check_words.py"), *arguments]
    return subprocess.run(argv, cwd=repository, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("anew", 3),  # twice in the page, once in the docstring, not the variable
        ("Nobody", 1),
        ("wish*", 1),
        ("wish", 0),
        ("no name", 1),  # over two lines of one comment
        ("is no", 4),
        ("is no (not after there)", 2),
    ],
)
def test_a_word_is_counted_in_prose_only(repository: Path, word: str, count: int) -> None:
    assert check(repository, f"{count} {word} -> again").returncode == 0
    if count:
        fewer = check(repository, f"{count - 1} {word} -> again")
        assert fewer.returncode == 1
        assert f"{word!r}: {count} places, {count - 1} allowed. Use: again" in fewer.stdout


def test_each_place_is_named(repository: Path) -> None:
    shown = check(repository, "0 anew -> again").stdout
    places = [line for line in shown.splitlines() if line.endswith("'anew'")]
    assert places == ["README.md:1: 'anew'", "README.md:2: 'anew'", "forge/module.py:2: 'anew'"]


def test_an_update_lowers_numbers_and_raises_none(repository: Path) -> None:
    done = check(repository, "9 anew -> again\n0 nobody -> no client", "--update")
    left = (repository / ".config/words.txt").read_text()
    assert left == "# Words\n3 anew -> again\n0 nobody -> no client\n"
    assert done.returncode == 1  # the second still has more than it may


def test_a_line_that_is_not_valid_is_named(repository: Path) -> None:
    done = check(repository, "anew: again")
    assert done.returncode == 1
    assert "words.txt:2: not of the form" in done.stderr
