"""The Kubernetes overlay of a profile."""

from __future__ import annotations

from pathlib import Path

from forge.deploy.overlay import Overlay, overlay
from forge.images.bases import read_bases
from forge.profiles import load

ROOT = Path(__file__).resolve().parents[2]
BASES = read_bases(ROOT / "dockerfiles")


def of(name: str, *overrides: str) -> Overlay:
    return overlay(load(name, ROOT / "profiles", overrides=overrides).profile, BASES)
