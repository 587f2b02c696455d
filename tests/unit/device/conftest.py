"""Machines replayed from captures; see captures/README.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from forge import profiles
from forge.device.facts import Answer, collect
from forge.device.hardware import Hardware, parse
from forge.profiles import Match, Profile

CAPTURES = Path(__file__).parent / "captures"
PROJECT = Path(__file__).parents[3]


class Replay:
    """Answers commands from a capture's files, and says 'not installed' for the rest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, argv: Sequence[str], _timeout_s: float) -> Answer:
        path = self._folder / f"{_file_of(argv)}.txt"
        if not path.exists():
            return Answer(problem="not installed")
        text = path.read_text()
        failed = "not a valid field" in text or "has failed" in text
        return Answer(text, problem=f"exit code 2: {text.strip()}" if failed else "")


def _file_of(argv: Sequence[str]) -> str:
    match argv:
        case ["uname", flag]:
            return f"uname{flag}"
        case ["nvidia-smi"]:
            return "nvidia-smi"
        case ["nvidia-smi", query, _]:
            return "nvidia-smi-query" if "compute_cap" in query else "nvidia-smi-query-old"
        case _:
            return "unknown"


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Hardware]:
    """The hardware a capture describes, through the real collector and parser."""

    def make(name: str) -> Hardware:
        folder = CAPTURES / name
        root = tmp_path / name
        for source in (folder / "root").rglob("*"):
            if source.is_file():
                target = root / source.relative_to(folder / "root")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(source.read_text().rstrip("\n").replace("\\0", "\0"))
        return parse(collect(root, Replay(folder), 1.0))

    return make


@pytest.fixture(scope="session")
def shipped() -> dict[str, Profile]:
    """The profiles of this repository."""
    folder = PROJECT / "profiles"
    return {name: profiles.load(name, folder).profile for name in profiles.names(folder)}


@pytest.fixture
def rules(shipped: dict[str, Profile]) -> dict[str, tuple[str, Match]]:
    """Platform and match of each shipped profile."""
    return {name: (entry.platform, entry.hardware.match) for name, entry in shipped.items()}
