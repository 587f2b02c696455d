"""Servers of the tests, and a device that has something installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.device_world import Device, World
from tests.support.seaweed import own_seaweedfs, seaweedfs

__all__ = ["device", "installed", "own_seaweedfs", "seaweedfs", "world"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose device has 1.0.0 in slot a."""
    world = World(tmp_path_factory.mktemp("installed"))
    world.publish("1.0.0")
    world.device().once()
    return world


@pytest.fixture
def world(installed: World, tmp_path: Path) -> World:
    """The same in a folder of its own."""
    shutil.copytree(installed.folder, tmp_path / "world", symlinks=True)
    copied = World(tmp_path / "world")
    copied.device().follow(copied)
    return copied


@pytest.fixture
def device(world: World) -> Device:
    return world.device()
