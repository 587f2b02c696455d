"""A device that is not alone: a second updater, a publisher that collects what it is pulling."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.store import open_store
from forge.store.maintenance.garbage import collect_garbage
from tests.support import syscalls
from tests.support.campaign import Campaign, sample
from tests.support.device_world import Device, Says, World
from tests.support.spawn import Spawn
from tests.support.survival import check_journal, check_slot, forge_device, version

pytestmark = [pytest.mark.network]


@pytest.mark.real_triton
def test_two_updaters_at_once_install_once(spawn: Spawn, world: World, device: Device) -> None:
    world.publish("1.1.0", Says(words="Paris again"))
    argv = forge_device("run", "--once", state=device.state)
    both = [
        spawn(argv, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    said = [one.communicate(timeout=120)[1] for one in both]
    statuses = sorted(one.returncode for one in both)
    # The second is refused, or comes so late that it finds nothing left to do.
    assert statuses in ([0, 2], [0, 0]), said
    if statuses == [0, 2]:
        assert sum("Another agent runs this device" in text for text in said) == 1
    check_journal(device)
    check_slot(device, frozenset({"1.1.0"}))
    events = (device.state / "history.jsonl").read_text()
    assert events.count('"installing"') == 2  # 1.0.0, and 1.1.0 once


def pulling(installed: World, folder: Path) -> tuple[World, Device, Manifest]:
    """A device that has a bundle before it that is mostly new, and the publisher."""
    shutil.copytree(installed.folder, folder, symlinks=True)
    world = World(folder)
    device = world.device()
    device.follow(world)
    says = Says(words="Paris for a moment", ballast=900_000)
    return world, device, world.publish("1.1.0", says)


def run(device: Device, judge: Callable[[syscalls.Call], syscalls.Verdict]) -> syscalls.Outcome:
    return syscalls.run(
        forge_device("run", "--once", state=device.state), judge, below=device.state
    )


def collect(installed: World, folder: Path, number: int) -> None:
    """The publisher replaces and deletes, at the n-th call, what the device is pulling."""
    world, device, pulled = pulling(installed, folder)
    at: list[syscalls.Call] = []

    def judge(call: syscalls.Call) -> syscalls.Verdict:
        if call.number == number:
            at.append(call)
            kept = world.publish("1.2.0", Says(words="Paris to stay"))
            store = open_store(world.store_url, environment={})
            trees = [kept.tree.digest, kept.proofs.digest]
            collect_garbage(store, keep_trees=trees, grace_s=0, now=time.time() + 120)
            assert not store.has_tree(pulled.tree.digest)
        return "go on"

    outcome = run(device, judge)
    try:
        check_end(device, outcome)
    except AssertionError as error:
        raise AssertionError(f"at {at}: {error}\n{outcome.output}") from error


def check_end(device: Device, outcome: syscalls.Outcome) -> None:
    assert "Traceback" not in outcome.output
    # Pulled in time; or told that the store has it no more, or that its metadata moved on.
    assert outcome.status in {0, 7, 9}, outcome.status
    check_journal(device)
    check_slot(device, frozenset({"1.0.0", "1.1.0", "1.2.0"}))
    assert device.status.bad == ()
    device.once()
    assert version(device) == "1.2.0"


def race_through(installed: World, folder: Path, out: Path, most: int | None) -> None:
    what = "garbage collection of the bundle being pulled"
    campaign = Campaign(out, "collected", what, "system calls")
    _, device, _ = pulling(installed, folder / "count")
    campaign.possible = len(run(device, lambda _call: "go on").calls) - 1
    for number in sample(campaign.possible, most):
        campaign.tried += 1
        try:
            collect(installed, folder / str(number), number)
        except AssertionError as error:
            campaign.failures.append(str(error))
        shutil.rmtree(folder / str(number))
    campaign.finish()


def test_a_bundle_collected_during_its_pull_costs_no_slot(
    installed: World, tmp_path: Path, faults_out: Path
) -> None:
    syscalls.need_traps()
    race_through(installed, tmp_path, faults_out / "bounded", 2)


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * 3600)
def test_a_bundle_collected_at_any_moment_of_its_pull_costs_no_slot(
    installed: World, tmp_path: Path, faults_out: Path
) -> None:
    syscalls.need_traps()
    race_through(installed, tmp_path, faults_out, None)
