"""Machines replayed from captures, and the profiles of this repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge import profiles
from forge.device.hardware.inventory import Hardware
from forge.profiles import MatchSection, Profile
from tests.support.captured import machine_of

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def machine() -> Callable[[str], Hardware]:
    """The hardware a capture describes, through the real collector and parser."""
    return machine_of


@pytest.fixture(scope="session")
def shipped() -> dict[str, Profile]:
    """The profiles of this repository."""
    folder = PROJECT / "profiles"
    return {name: profiles.load(name, folder).profile for name in profiles.names(folder)}


@pytest.fixture
def rules(shipped: dict[str, Profile]) -> dict[str, tuple[str, MatchSection]]:
    """Platform and match of each shipped profile."""
    return {name: (entry.platform, entry.hardware.match) for name, entry in shipped.items()}
