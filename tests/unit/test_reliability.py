"""docs/explanation/reliability.md: every row, and every test that it names exists."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_every_test_named_in_the_table_exists() -> None:
    named = NAMED.findall(PAGE)
    missing = [f"{file}::{name}" for file, name in named if not _has(file, name)]
    assert len(named) > 31
    assert missing == []


ONLY_NIGHTLY = {"24"}  # files of 4 GiB


def test_every_row_has_a_test_that_make_test_or_make_test_heavy_runs() -> None:
    argv = [sys.executable, "-m", "tests.support.groups"]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    groups: dict[str, list[str]] = json.loads(done.stdout)
    late = set()
    for row in re.findall(r"^\| .*", PAGE, re.MULTILINE):
        named = [f"{file}::{name}" for file, name in NAMED.findall(row)]
        assert all("all" in groups.get(name, ()) for name in named), row
        if named and not any({"test", "heavy"} & set(groups[name]) for name in named):
            late.add(row.split("|")[1].strip())
    assert late == ONLY_NIGHTLY


def test_every_row_is_there_once_and_says_something() -> None:
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 41))
    assert all(len(text) > 10 for _, text in rows)


def test_every_bound_on_a_caller_has_a_row_with_a_test() -> None:
    section = PAGE.partition("\n## Callers of the gateway\n")[2]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    for said in ("stops reading", "idle", "head slowly", "body", "connection after connection"):
        [row] = [row for row in rows if said in row.split("|")[1]]
        assert NAMED.search(row), row


def _has(file: str, name: str) -> bool:
    path = ROOT / "tests" / file
    return path.is_file() and f"def {name}(" in path.read_text(encoding="utf-8")
