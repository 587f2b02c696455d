"""A power cut at a system call: what was not fsynced is gone, the file system is replayed.

The device's folder is on an ext4 of its own that writes nothing by itself. At each chosen system
call the agent is held and the disk below the file system is copied: that is what a power cut would
leave there. Each copy is mounted, and has to come to the same end as a device that was killed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import ForgeError
from tests.support import syscalls
from tests.support.campaign import Campaign, sample
from tests.support.device_world import Device
from tests.support.disks import make_ext4, mounted
from tests.support.survival import Setup, check_no_server, listing
from tests.support.walks import WALKS, Walk, prepared, survives

pytestmark = [pytest.mark.kills, pytest.mark.slow, pytest.mark.network]

_MIB = 48
# Nothing but fsync makes anything durable: no commit by itself, and none for a rename.
_LAZY = ("commit=300", "noauto_da_alloc")
_CUTS = [walk for walk in WALKS if walk.name in {"kill-update", "kill-first-install"}]


def cuts(
    walk: Walk, setups: dict[str, Setup], folder: Path, numbers: set[int]
) -> tuple[list[syscalls.Call], set[str]]:
    """Run the command once, copying the disk before each of these calls as NUMBER.img."""
    image = make_ext4(folder / "disk.img", _MIB)
    with mounted(folder / "disk", image, *_LAZY) as disk:
        one = prepared(walk, setups, folder / "disk" / "it")
        disk.flush()

        def judge(call: syscalls.Call) -> syscalls.Verdict:
            if call.number in numbers:
                disk.cut(folder / f"{call.number}.img")
            return "go on"

        outcome = syscalls.run(walk.argv(one), judge, timeout_s=900)
        assert outcome.status == 0, outcome.output
        check_no_server(one)
        return outcome.calls, listing(one.state)


def cut_through(
    walk: Walk, setups: dict[str, Setup], folder: Path, out: Path, most: int | None
) -> None:
    name = walk.name.replace("kill", "cut")
    campaign = Campaign(out, name, f"power cut in {walk.what}", "system calls")
    (folder / "count").mkdir()
    (folder / "cut").mkdir()
    calls, _ = cuts(walk, setups, folder / "count", set())
    campaign.possible = len(calls)
    numbers = sample(campaign.possible, most)
    calls, files = cuts(walk, setups, folder / "cut", set(numbers))
    for turn, number in enumerate(numbers):
        image = folder / "cut" / f"{number}.img"
        if not image.exists():  # a call fewer than the time before
            continue
        serve = walk.serve_each > 0 and turn % walk.serve_each == walk.serve_each // 2
        campaign.tried += 1
        try:
            with mounted(folder / "cut" / "disk", image) as disk:
                one = Device(disk.path / "it" / "state")
                left = survives(walk, setups[walk.before], one, serve=serve)
                assert left <= files, f"left over {sorted(left - files)}"
        except (AssertionError, ForgeError, OSError) as error:
            text = f"cut at {calls[number - 1]}: {type(error).__name__} {error}"
            campaign.failures.append(text)
        else:
            campaign.served += serve
            image.unlink()
    campaign.finish()


@pytest.mark.parametrize("walk", _CUTS, ids=lambda walk: walk.name.replace("kill", "cut"))
def test_a_device_whose_power_is_cut_at_some_system_calls_is_whole_and_goes_on(
    walk: Walk, setups: dict[str, Setup], tmp_path: Path, faults_out: Path
) -> None:
    cut_through(walk, setups, tmp_path, faults_out / "bounded", 2)


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("walk", _CUTS, ids=lambda walk: walk.name.replace("kill", "cut"))
def test_a_device_whose_power_is_cut_at_any_system_call_is_whole_and_goes_on(
    walk: Walk, setups: dict[str, Setup], tmp_path: Path, faults_out: Path
) -> None:
    cut_through(walk, setups, tmp_path, faults_out, None)
