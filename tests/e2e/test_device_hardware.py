"""A device whose driver is ill: what serves stays, and the log and the history say why.

The machine is a fake nvidia-smi on PATH (text and exit code), the rest of the chain is real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forge.device import maintenance
from forge.profiles import MatchSection
from tests.support.device_world import Device, Says, World, triton_processes
from tests.support.machines import FakeMachine

pytestmark = [pytest.mark.network]

P40 = "Tesla P40, 24576, 580.126.09, 6.1, GPU-p40\n"
ILL = {
    "a warning": (f"{P40}WARNING: infoROM is corrupted at gpu 0000:01:00.0\n", 14),
    "another GPU is lost": (
        f"{P40}Unable to determine the device handle for GPU1: GPU is lost\n",
        15,
    ),
    "its driver was updated": (
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.1\n",
        18,
    ),
    "its GPU is gone": ("No devices were found\n", 6),
    "its memory cannot be read": (P40.replace("24576", "[GPU requires reset]"), 0),
    "it is another card that no profile is for": (P40.replace("Tesla P40", "Quadro P6000"), 0),
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    made = FakeMachine(tmp_path / "machine")
    monkeypatch.setenv("PATH", f"{made.folder / 'bin'}:{os.environ['PATH']}")
    return made


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.publish("1.0.0", Says(words="Paris by CPU"))
    rules = MatchSection.model_validate({"gpu_name": "*Tesla P40", "memory_mib_min": 1})
    gpu: dict[str, Any] = {"profile": "tesla-p40", "compute_capability": "6.1", "match": rules}
    made.publish("1.0.0", Says(words="Paris by GPU"), **gpu)
    return made


def once(device: Device, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "forge", "device", "run", "--once", *arguments]
    argv += ["--state", str(device.state)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def detections(device: Device) -> list[str]:
    return [one.reason for one in maintenance.history(device.state) if one.event == "detected"]


@pytest.mark.parametrize("state", ILL)
def test_what_serves_is_never_replaced_because_its_driver_is_ill(
    machine: FakeMachine, world: World, state: str
) -> None:
    machine.smi(P40)
    device = world.device()
    first = once(device)
    assert "committed: slot a holds llm 1.0.0 (tesla-p40)" in first.stderr
    assert "profile tesla-p40 on Tesla P40 (GPU-p40): gpu_name is Tesla P40" in first.stderr
    text, code = ILL[state]
    machine.smi(text, code=code)
    second = once(device)
    assert (second.returncode, "committed" in second.stderr) == (0, False), second.stderr
    assert "profile tesla-p40" in second.stderr
    status = device.status
    assert (status.slot, status.release and status.release.profile) == ("a", "tesla-p40")
    assert detections(device)[-1].startswith("profile tesla-p40")
    if code == 18:
        assert "Driver/library version mismatch" in detections(device)[-1]
        assert "reboot" in detections(device)[-1]
    before = detections(device)
    once(device)
    assert detections(device) == before  # said once


def test_a_driver_that_is_not_ready_yet_is_waited_for_and_no_fallback_installed(
    machine: FakeMachine, world: World
) -> None:
    machine.smi("NVIDIA-SMI has failed because it couldn't communicate with the driver\n", code=9)
    device = world.device()
    with device.running(poll_s=600) as agent:  # asked again long before the next check is due
        agent.wait(lambda status: bool(status.look and status.look.error))
        assert device.status.release is None
        assert "not known now which profile" in str(device.status.look)
        machine.smi(P40)
        agent.wait_ready("1.0.0")
        assert agent.ask() == "Paris by GPU"
    assert [text.split(":")[0] for text in detections(device)] == [
        "It is not known now which profile this machine has",
        "profile tesla-p40 on Tesla P40 (GPU-p40)",
    ]


def test_the_server_sees_the_one_gpu_that_the_profile_matches(
    machine: FakeMachine, world: World
) -> None:
    machine.smi(f"Quadro P6000, 24576, 580.126.09, 6.1, GPU-p6\n{P40}")
    device = world.device()
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        assert visible_gpus(device) == {"GPU-p40"}


def test_a_machine_without_a_gpu_gets_the_fallback_unless_the_channel_forbids_it(
    machine: FakeMachine, world: World
) -> None:
    machine.no_smi()
    device = world.device()
    assert "committed: slot a holds llm 1.0.0 (development)" in once(device).stderr
    machine.smi(P40)  # a card is put in
    assert "committed: slot b holds llm 1.0.0 (tesla-p40)" in once(device).stderr
    machine.no_smi()  # and taken out: nothing is replaced by the fallback
    assert "it serves, and stays" in once(device).stderr
    by_hand = once(device, "--profile", "development")
    assert "committed: slot a holds llm 1.0.0 (development)" in by_hand.stderr


def visible_gpus(device: Device) -> set[str]:
    """CUDA_VISIBLE_DEVICES of the server's processes."""
    from tests.support.device_world import triton_processes

    found = set()
    for pid in triton_processes(device.state):
        words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        found |= {one.partition("=")[2] for one in words if one.startswith("CUDA_VISIBLE_DEVICES=")}
    return found


RULES = MatchSection.model_validate({"gpu_name": "*Tesla P40", "memory_mib_min": 1})
OLDER = P40.replace("580.126.09", "570.86.10")
CHANGED = (
    "it needs NVIDIA driver 580 or newer, this is 570.86.10;"
    " changed since it served: NVIDIA driver 580.126.09 → 570.86.10"
)


def fits(device: Device) -> list[tuple[str, str]]:
    kinds = {"no-longer-fits", "fits-again"}
    events = maintenance.history(device.state)
    return [(one.event, one.reason) for one in events if one.event in kinds]


@pytest.mark.slow
def test_after_a_change_of_the_driver_the_device_takes_the_bundle_that_fits(
    machine: FakeMachine, world: World
) -> None:
    """The channel has one for each driver; what serves is not replaced as long as it fits."""
    gpu: dict[str, Any] = {"compute_capability": "6.1", "match": RULES}
    machine.smi(P40)
    world.publish("1.1.0", profile="tesla-p40", driver_min="580", **gpu)
    device = world.device()
    once(device)
    world.publish("1.1.0", Says(words="Paris by 570"), profile="tesla-p40-r570", **gpu)
    once(device)
    assert device.status.release is not None
    assert device.status.release.profile == "tesla-p40"
    machine.smi("Failed to initialize NVML: Driver/library version mismatch\n", code=18)
    once(device)
    assert device.status.release.profile == "tesla-p40"
    assert fits(device) == []
    machine.smi(OLDER)
    changed = once(device)
    assert device.status.release.profile == "tesla-p40-r570", changed.stderr
    assert fits(device) == [("no-longer-fits", CHANGED)]
    assert f"llm 1.1.0 (tesla-p40) no longer fits ({CHANGED})" in detections(device)[-1]
    assert device.status.bad == ()
    once(device)
    assert fits(device)[1:] == [("fits-again", "")]


@pytest.mark.slow
def test_a_release_that_a_driver_ended_is_not_bad_and_comes_back_with_the_driver(
    machine: FakeMachine, world: World
) -> None:
    gpu: dict[str, Any] = {"profile": "tesla-p40", "compute_capability": "6.1", "match": RULES}
    machine.smi(P40)
    device = world.device()
    once(device)
    world.publish("1.1.0", Says(words="Paris of now"), driver_min="580", **gpu)
    once(device)
    machine.smi(OLDER)
    with device.running() as agent:
        for _ in range(3):
            agent.wait_ready("1.1.0")
            for process in triton_processes(device.state):
                os.kill(process, signal.SIGKILL)
            agent.wait(lambda _status: agent.ready() != "1.1.0")
        agent.wait_ready("1.0.0")
        agent.wait(lambda status: bool(status.agent and status.agent.look))
        assert device.status.bad == ()
        assert f"not the release's fault: {CHANGED}" in device.status.rollbacks[-1].reason
        machine.smi(P40)
        agent.wait_ready("1.1.0")
    assert fits(device)[0] == ("no-longer-fits", CHANGED)
