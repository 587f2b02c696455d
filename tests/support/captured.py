"""Machines replayed from captures; see captures/README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forge.device.hardware.facts import Answer, collect
from forge.device.hardware.inventory import Hardware, parse

__all__ = ["CAPTURES", "Replay", "captured", "unpack"]

CAPTURES = Path(__file__).parent / "captures"


class Replay:
    """Answers commands from a capture's files, and says 'not installed' for the rest."""

    def __init__(self, name: str) -> None:
        self._folder = CAPTURES / name

    def __call__(self, argv: Sequence[str], _timeout_s: float) -> Answer:
        path = self._folder / f"{_file_of(argv)}.txt"
        if not path.exists():
            return Answer(problem="not installed")
        text = path.read_text()
        failed = "not a valid field" in text or "has failed" in text
        return Answer(text, problem=f"exit code 2: {text.strip()}" if failed else "")


def captured(name: str, root: Path) -> Hardware:
    """The hardware a capture describes, through the real collector and parser."""
    return parse(collect(unpack(name, root), Replay(name), 1.0))


def unpack(name: str, root: Path) -> Path:
    """The /proc, /etc and /sys of a capture, written below a folder."""
    folder = CAPTURES / name / "root"
    for source in folder.rglob("*"):
        if source.is_file():
            target = root / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text().rstrip("\n").replace("\\0", "\0"))
    return root


def _file_of(argv: Sequence[str]) -> str:
    match argv:
        case ["uname", flag]:
            return f"uname{flag}"
        case ["nvidia-smi"]:
            return "nvidia-smi"
        case ["nvidia-smi", query, _]:
            return "nvidia-smi-query" if "compute_cap" in query else "nvidia-smi-query-old"
        case ["nvpmodel", flag, *_]:
            return f"nvpmodel{flag}"
        case _:
            return "unknown"
