"""Which builders calibrate a quantisation, and with which texts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import edge_llm, tensorrt_llm
from forge.profiles import Profile

__all__ = ["calibration_set"]

_TEXTS: Final = Path(__file__).parents[1] / "data" / "calibration.jsonl"
_CALIBRATED: Final = {
    "tensorrt-llm": tensorrt_llm.QUANTISED,
    "edge-llm": frozenset(edge_llm.QUANTISATIONS),
}


def calibration_set(profile: Profile) -> Path | None:
    """Return the texts that calibrate the engine of a profile; None: its builder uses none."""
    builder, precision = profile.engine.builder, profile.engine.precision
    return _TEXTS if precision in _CALIBRATED.get(builder, ()) else None
