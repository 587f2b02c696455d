"""Servers of the tests, and a device that has something installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import syscalls
from tests.support.device_world import Device, World, triton_of, use_triton
from tests.support.seaweed import own_seaweedfs, seaweedfs
from tests.support.survival import Setup
from tests.support.walks import make_setups

__all__ = [
    "device",
    "faults_out",
    "installed",
    "own_seaweedfs",
    "seaweedfs",
    "setups",
    "triton",
    "triton_of_module",
    "world",
]


@pytest.fixture(autouse=True, scope="module")
def triton_of_module(request: pytest.FixtureRequest) -> None:
    """Choose the server of the bundles that fixtures of a module publish."""
    use_triton(triton_of(request))


@pytest.fixture(autouse=True)
def triton(request: pytest.FixtureRequest) -> None:
    """Choose the server of the bundles that this test publishes."""
    use_triton(triton_of(request))


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


@pytest.fixture(scope="session")
def faults_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where fault tests write their numbers."""
    return Path(os.environ.get("FORGE_FAULTS_OUT") or tmp_path_factory.getbasetemp() / "faults")


@pytest.fixture(scope="session")
def setups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Setup]:
    """Devices to be disturbed at their system calls; a skip where a test cannot see those."""
    syscalls.need_traps()
    return make_setups(tmp_path_factory.mktemp("setups"))
