"""Machines replayed from captures; see captures/README.md."""

from __future__ import annotations

from pathlib import Path

from forge.device.hardware.capture import Capture, hardware_of
from forge.device.hardware.capture_files import read_capture
from forge.device.hardware.facts import Run
from forge.device.hardware.inventory import Hardware

__all__ = ["BOARDS", "CAPTURES", "captured", "machine_of", "replay", "unpack"]

CAPTURES = Path(__file__).parent / "captures"
BOARDS = tuple(sorted(path.name for path in CAPTURES.iterdir() if path.is_dir()))


def captured(name: str) -> Capture:
    """A capture by the name of its folder."""
    return read_capture(CAPTURES / name)


def machine_of(name: str) -> Hardware:
    """The hardware a capture describes, through the real collector and parser."""
    return hardware_of(captured(name))


def replay(name: str) -> Run:
    """What the programs of a captured machine answer."""
    return captured(name).run


def unpack(name: str, root: Path) -> Path:
    """The files of a capture below a folder; those that could not be read are missing."""
    capture = captured(name)
    for path in sorted(capture.files.keys() | capture.listed):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(capture.files.get(path, b""))
    return root
