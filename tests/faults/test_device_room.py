"""A disk with room for two bundles and little more: every update gets through."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.device.maintenance import history
from forge.errors import FitError
from tests.support.device_world import Device, Says, World
from tests.support.disks import mounted

pytestmark = [pytest.mark.network]

MIB = 2**20
BUNDLE = 24 * MIB
FREE_MIB = 16
# Between what the profile asks for beside two bundles (64) and beside three (88).
DISK_MIB = 72
# The agent itself, killed when nine tenths of a bundle have come.
BOMB = """
import os, signal, sys
from pathlib import Path
from forge import device
from forge.store.download.downloader import Downloader
count = Downloader._count
def bomb(pull, **numbers):
    count(pull, **numbers)
    if pull._size > 2**20 and pull._done > 0.9 * pull._size:
        os.kill(os.getpid(), signal.SIGKILL)
Downloader._count = bomb
device.run(Path(sys.argv[1]), once=True)
"""


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[tuple[World, Device]]:
    """A device on a small disk; its world lies elsewhere."""
    world = World(tmp_path / "world")
    made = world.device()
    with mounted(tmp_path / "disk", None, f"size={DISK_MIB}m") as disk:
        state = disk.path / "state"
        shutil.copytree(made.state, state, symlinks=True)
        yield world, Device(state)


def publish(world: World, number: int, *, other_weights: bool = True) -> str:
    version = f"1.{number}.0"
    first = number * BUNDLE if other_weights else 0
    says = Says(words=f"Paris {version}", ballast=BUNDLE, ballast_from=first)
    world.publish(version, says, free_disk_mib=FREE_MIB)
    return version


def serving(device: Device) -> str | None:
    release = device.status.release
    return release.version if release else None


def test_updates_in_a_row_and_one_killed_near_its_end_get_through(
    tight: tuple[World, Device],
) -> None:
    world, device = tight
    for number in range(4):  # the first install and three updates
        version = publish(world, number)
        device.once()
        assert serving(device) == version
    version = publish(world, 4)
    argv = [sys.executable, "-c", BOMB, str(device.state)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # Asked for beside all of a bundle: refused, if what was fetched did not count.
    assert device.home.free_mib() < FREE_MIB + BUNDLE // MIB
    device.once()
    assert serving(device) == version
    fetched = [one for one in history(device.state) if one.event == "fetched"][-1]
    assert fetched.fetched_bytes is not None
    assert fetched.fetched_bytes < BUNDLE // 2


def test_files_of_the_active_slot_need_no_room(tight: tuple[World, Device]) -> None:
    world, device = tight
    publish(world, 0)
    device.once()
    filler = device.state.parent / "filler"
    filler.write_bytes(bytes((device.home.free_mib() - FREE_MIB - 4) * MIB))
    version = publish(world, 1, other_weights=False)
    device.once()
    assert serving(device) == version


@pytest.mark.real_triton
def test_the_refusal_says_how_much_is_missing_and_that_much_is_enough(
    tight: tuple[World, Device],
) -> None:
    world, device = tight
    for number in range(2):
        publish(world, number)
        device.once()
    version = publish(world, 2)
    filler = device.state.parent / "filler"
    filler.write_bytes(bytes(16 * MIB))
    with pytest.raises(FitError) as caught:
        device.once()
    missing = int(caught.value.hint.split(" MiB")[0].removeprefix("free "))
    assert 0 < missing < 16
    filler.write_bytes(bytes((16 - missing) * MIB))
    device.once()
    assert serving(device) == version
