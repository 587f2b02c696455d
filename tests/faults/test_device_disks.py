"""A disk that fills up, runs out of inodes, turns read-only or fails at a system call of an update.

Whatever the disk does and whenever: the old slot or the new one is whole, the agent ends with a
sentence and its exit code, no release is blamed for it, and once the disk is well the update gets
through.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forge.errors import ForgeError
from tests.support import syscalls
from tests.support.campaign import Campaign, sample
from tests.support.device_world import Device
from tests.support.disks import Disk, make_ext4, mounted
from tests.support.survival import Setup, check_journal, check_no_server, check_slot, version
from tests.support.walks import NEW, UPDATE, prepared

pytestmark = [pytest.mark.kills, pytest.mark.slow, pytest.mark.network]

_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Illness:
    """What is wrong with a disk from a system call on, or at it.

    Attributes:
        name: of its numbers.
        what: in a sentence.
        disk: makes one, mounted.
        strike: makes it ill; its result is what the call itself meets.
        exits: statuses the agent may end with.
        says: one of these stands in what it says, if it fails.
        reads: failing reads count as points, too.
        most: points on each push.
    """

    name: str
    what: str
    disk: Callable[[Path], contextlib.AbstractContextManager[Disk]]
    strike: Callable[[Disk], syscalls.Verdict]
    exits: frozenset[int]
    says: tuple[str, ...]
    reads: bool = False
    most: int = 2


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[Disk]:
    with mounted(folder, None, "size=100m", "nr_inodes=4000") as disk:
        yield disk


@contextlib.contextmanager
def few_inodes(folder: Path) -> Iterator[Disk]:
    image = make_ext4(folder.with_suffix(".img"), 48, "-N", "400")
    with mounted(folder, image) as disk:
        yield disk


@contextlib.contextmanager
def ext4(folder: Path) -> Iterator[Disk]:
    image = make_ext4(folder.with_suffix(".img"), 48)
    with mounted(folder, image, "errors=remount-ro") as disk:
        yield disk


@contextlib.contextmanager
def plain(folder: Path) -> Iterator[Disk]:
    folder.mkdir()
    yield Disk(folder, folder)


def fill(disk: Disk) -> syscalls.Verdict:
    disk.fill()
    return "go on"


def fill_names(disk: Disk) -> syscalls.Verdict:
    disk.fill_names()
    return "go on"


def turn_read_only(disk: Disk) -> syscalls.Verdict:
    disk.fail()
    return "go on"


ILLNESSES = [
    Illness(
        "disk-full", "a disk that is full from there on", tmpfs, fill,
        frozenset({0, 8, 9}), ("No space left on device", "Not enough space", "free "),
    ),
    Illness(
        "no-inodes", "a disk without inodes from there on", few_inodes, fill_names,
        frozenset({0, 9}), ("No space left on device", "Not enough inodes"),
    ),
    Illness(
        "read-only", "a disk that turns read-only", ext4, turn_read_only,
        frozenset({0, 9}), ("Read-only file system", "Input/output error", "Structure needs"),
    ),
    Illness(
        "eio", "an EIO of that call", plain, lambda _disk: errno.EIO,
        frozenset({0, 3, 9}), ("Input/output error", "cannot be read"), reads=True, most=3,
    ),
]  # fmt: skip


def struck(
    illness: Illness, setups: dict[str, Setup], folder: Path, number: int
) -> syscalls.Call | None:
    """One illness at one call, and the recovery; at which call it was."""
    at: list[syscalls.Call] = []
    with illness.disk(folder / "disk") as disk:
        one = prepared(UPDATE, setups, disk.path / "it")

        def judge(call: syscalls.Call) -> syscalls.Verdict:
            if call.number != number:
                return "go on"
            at.append(call)
            return illness.strike(disk)

        names = {**syscalls.CHANGES, **(syscalls.READS if illness.reads else {})}
        outcome = syscalls.run(UPDATE.argv(one), judge, names=names, below=one.state)
        try:
            check_outcome(illness, outcome)
            check_no_server(one)
            check_journal(one)
            check_slot(one, UPDATE.allowed)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"at {at}: {error}\n{outcome.output[-1500:]}") from error
        disk.empty()
        if illness.name != "read-only":
            recover(one, at)
    if illness.name == "read-only":
        image = folder / "disk.img"
        done = subprocess.run(["e2fsck", "-p", str(image)], capture_output=True, check=False)
        assert done.returncode in {0, 1}, done.stdout
        with mounted(folder / "disk", image) as disk:
            recover(Device(disk.path / "it" / "state"), at)
    return at[0] if at else None


def check_outcome(illness: Illness, outcome: syscalls.Outcome) -> None:
    assert _TRACEBACK not in outcome.output
    assert "mistake in Forge" not in outcome.output
    assert outcome.status in illness.exits, f"it ended with {outcome.status}"
    if outcome.status:
        assert any(text in outcome.output for text in illness.says)
        assert "→" in outcome.output


def recover(one: Device, at: list[syscalls.Call]) -> None:
    try:
        assert one.status.bad == ()
        one.once()
        assert version(one) == NEW
        check_journal(one)
        check_slot(one, frozenset({NEW}))
    except (AssertionError, ForgeError, OSError) as error:
        raise AssertionError(f"after {at}: {type(error).__name__} {error}") from error


def strike_through(
    illness: Illness, setups: dict[str, Setup], folder: Path, out: Path, most: int | None
) -> None:
    campaign = Campaign(out, illness.name, f"{illness.what}, in an update", "system calls")
    one = prepared(UPDATE, setups, folder / "count")
    names = {**syscalls.CHANGES, **(syscalls.READS if illness.reads else {})}
    outcome = syscalls.run(UPDATE.argv(one), lambda _call: "go on", names=names, below=one.state)
    campaign.possible = len(outcome.calls)
    for number in sample(campaign.possible, most):
        place = folder / str(number)
        place.mkdir()
        try:
            campaign.tried += struck(illness, setups, place, number) is not None
        except AssertionError as error:
            campaign.failures.append(str(error))
            campaign.tried += 1
        else:
            shutil.rmtree(place)
    campaign.finish()


@pytest.mark.parametrize("illness", ILLNESSES, ids=lambda one: one.name)
def test_a_disk_that_is_ill_at_some_system_calls_costs_no_slot(
    illness: Illness, setups: dict[str, Setup], tmp_path: Path, faults_out: Path
) -> None:
    strike_through(illness, setups, tmp_path, faults_out / "bounded", illness.most)


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("illness", ILLNESSES, ids=lambda one: one.name)
def test_a_disk_that_is_ill_at_any_system_call_costs_no_slot(
    illness: Illness, setups: dict[str, Setup], tmp_path: Path, faults_out: Path
) -> None:
    strike_through(illness, setups, tmp_path, faults_out, None)
