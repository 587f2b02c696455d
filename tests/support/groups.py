"""Which command runs a test, and which tests run on the same worker of pytest-xdist.

    quick   seconds; `make test-quick`
    test    installs packages or starts the real Triton: one test of each class; `make test`
    heavy   gigabytes of tools, container images, a sample of kills; `make test-heavy`
    rest    every other slow test, and the exhaustive ones; only `make test-all`

`make test` runs quick and test. The group of a test follows from its marks, so that there is no
list to keep.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import pytest

__all__ = ["COMMANDS", "group", "main", "scope", "selected"]

HEAVY: Final = frozenset({"builders", "clients", "images", "dagger", "kills"})
COMMANDS: Final = {
    "quick": frozenset({"quick"}),
    "test": frozenset({"quick", "test"}),
    "heavy": frozenset({"heavy"}),
    "all": frozenset({"quick", "test", "heavy", "rest"}),
}
# Each of these measures time or memory, or fills all processors.
_MEASURING: Final = (
    "test_gateway_stress",
    "test_gateway_openvino",
    "test_smoke_benchmark",
    "test_network",
)
# Folders whose tests share one world: a released project, a device with the real model.
_WORLDS: Final = ("tests/e2e/chain/", "tests/e2e/clients/")


def group(marks: Collection[str], *, first: bool = True) -> str:
    """Return the group of a test that has these marks.

    Args:
        marks: their names.
        first: whether it is the first case of its function; a sample is one case.
    """
    if "exhaustive" in marks:
        return "rest"
    if HEAVY & set(marks):
        return "heavy"
    if "slow" in marks:
        return "test" if "sample" in marks and first else "rest"
    return "test" if "network" in marks else "quick"


def selected(items: Iterable[pytest.Item], command: str) -> dict[pytest.Item, bool]:
    """Return for each test whether this command runs it."""
    chosen: dict[pytest.Item, bool] = {}
    seen: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        marks = {mark.name for mark in item.iter_markers()}
        chosen[item] = group(marks, first=function not in seen) in COMMANDS[command]
        seen.add(function)
    return chosen


def scope(nodeid: str) -> str:
    """Return what a test shares its worker with: tests that share a world or exclude each other.

    Tests of one module outside tests/unit share worlds that take seconds to make; those of
    tests/unit are each by themselves.
    """
    path = nodeid.partition("::")[0]
    if path.startswith("tests/unit/"):
        return nodeid
    for world in _WORLDS:
        if path.startswith(world):
            return world
    return "measuring" if Path(path).stem in _MEASURING else path


class _Recorder:
    """A plugin that keeps the groups of all tests that were collected, function by function."""

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for command in ("quick", "test", "heavy", "all"):
            for item, runs in selected(session.items, command).items():
                name = item.nodeid.partition("[")[0].removeprefix("tests/")
                found = self.groups.setdefault(name, [])
                if runs and command not in found:
                    found.append(command)


def main() -> int:
    """Print as JSON which commands run each test function (`python -m tests.support.groups`)."""
    recorder = _Recorder()
    argv = ["--collect-only", "-qq", "-p", "no:cacheprovider"]
    # This module imports xdist before pytest can rewrite its assertions.
    argv += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(argv, plugins=[recorder])
    print(json.dumps(recorder.groups, indent=1))  # noqa: T201
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
