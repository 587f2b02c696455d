"""What is not a release's fault is not held against it: once the machine is right, it installs."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forge.environments
import forge.serving.triton.server
from forge.bundle import ChannelProfile
from forge.device.state.slots import Slots
from forge.device.update.resource_pressure import ResourceSnapshot
from forge.errors import (
    ConfigurationError,
    LoadFailedError,
    PortTakenError,
    RolledBackError,
    StepFailedError,
    StoreError,
    TrustError,
)
from forge.profiles import MatchSection
from forge.serving.triton.containment import OFF
from forge.serving.triton.ports import Ports, choose_ports
from tests.support.device_world import Device, Says, World, answers, refused, triton_processes

pytestmark = [pytest.mark.network]


def installs(device: Device) -> None:
    """The release that failed is not known to be bad, and gets through now."""
    assert device.status.bad == ()
    device.once()
    assert device.home.current() == "b"


def blamed(device: Device) -> list[str]:
    """Versions that are known to be bad."""
    return [verdict.release.version for verdict in device.status.bad]


def missing_library(*_arguments: Any) -> Path:
    hint = "apt-get install libpython3.11"
    raise ConfigurationError("Python 3.11 has no shared library", hint=hint)


def missing_python(*_arguments: Any, **_options: Any) -> Path:
    raise ConfigurationError("Environment could not be made", why="no interpreter found")


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        (("libpython_folder", missing_library), "apt-get install libpython3.11"),
        (("ensure", missing_python), "no interpreter found"),
    ],
)
def test_a_machine_without_the_right_python_is_put_right_and_tries_again(
    world: World,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    lacks: tuple[str, Callable[..., Path]],
    said: str,
) -> None:
    world.publish("1.1.0", Says(words="Paris"))
    with monkeypatch.context() as lacking:
        lacking.setattr(forge.environments, *lacks)
        with refused(device, ConfigurationError, said):
            device.once()
    installs(device)


def test_a_mirror_with_damaged_keys_of_proofs_blames_no_release(
    world: World, device: Device
) -> None:
    world.publish("1.1.0", Says(words="Paris"))
    [keys] = (world.folder / "store" / "tuf" / "targets").rglob("*.proofs.json")
    good = keys.read_bytes()
    keys.chmod(0o644)
    keys.write_bytes(good.replace(b"a", b"b", 1))
    shutil.rmtree(device.home.tuf / "targets")
    with refused(device, TrustError, "does not match its signature"):
        device.once()
    keys.write_bytes(good)
    installs(device)


def test_ports_that_are_taken_each_time_blame_no_release(
    world: World, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("1.1.0", Says(words="Paris"))
    with socket.socket() as taken, monkeypatch.context() as unlucky:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports(taken.getsockname()[1], choose_ports(Ports()).metrics)
        unlucky.setenv(OFF, "network")  # in a namespace nobody can take a port
        unlucky.setattr(forge.serving.triton.server, "choose_ports", lambda _wanted: ports)
        with refused(device, PortTakenError, "was taken before Triton could listen"):
            device.once()
    installs(device)


def test_a_fork_that_fails_blames_no_release(
    world: World, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("1.1.0", Says(words="Paris"))
    real = subprocess.Popen

    def fail(argv: Any, *arguments: Any, **options: Any) -> Any:
        if "supervisor.py" in str(argv):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(argv, *arguments, **options)

    with monkeypatch.context() as out_of_processes:
        out_of_processes.setattr(subprocess, "Popen", fail)
        with refused(device, StepFailedError, "could not be started"):
            device.once()
    installs(device)


@pytest.mark.real_triton
def test_a_disk_that_fails_in_the_middle_blames_no_release(
    world: World, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("1.1.0", Says(words="Paris"))

    def fail(_slots: Slots, _slot: str, *_more: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for method in ("mark_complete", "set_aside"):
        with monkeypatch.context() as failing:
            failing.setattr(Slots, method, fail)
            with refused(device, StoreError, "Input/output error"):
                device.once()
    installs(device)


def test_an_error_of_the_disk_ends_no_agent_that_serves(world: World, device: Device) -> None:
    # In the agent's process: its metadata cannot be read any more while it serves.
    with device.running(poll_s=1) as agent:
        agent.wait_ready("1.0.0")
        shutil.rmtree(device.home.tuf)
        device.home.tuf.write_bytes(b"no folder")
        world.publish("1.1.0", Says(words="Paris"))
        agent.wait(lambda status: bool(status.look and status.look.error))
        assert agent.ask() == "The capital is Paris"
        device.home.tuf.unlink()
        agent.wait_ready("1.1.0")


def test_a_tree_with_a_path_out_of_its_slot_is_refused(
    world: World, device: Device, tmp_path: Path
) -> None:
    before = set(device.state.parent.rglob("evil*"))
    world.publish("1.1.0", Says(words="Paris"), escape="../../evil")
    with refused(device, RolledBackError, r"Unsafe path '../../evil'"):
        device.once()
    assert set(tmp_path.rglob("evil*")) == before
    assert [verdict.release.version for verdict in device.status.bad] == ["1.1.0"]
    assert answers(device) == "The capital is Paris"


@pytest.mark.parametrize(
    "changes",
    [{"version": "../../1.0.0"}, {"version": "1.0.0/.."}, {"profiles": {"../development": {}}}],
)
def test_a_signed_channel_with_a_path_in_it_is_refused(
    world: World, device: Device, changes: dict[str, Any]
) -> None:
    if "profiles" in changes:
        anyone = ChannelProfile(platform="linux/amd64", match=MatchSection.model_validate({}))
        changes = {"profiles": dict.fromkeys(changes["profiles"], anyone)}
    world.point(**changes)
    with refused(device, TrustError, r"The channel is not valid: .*\.\."):
        device.once()
    assert answers(device) == "The capital is Paris"


@pytest.mark.real_triton
def test_a_release_that_is_at_fault_is_refused_for_good(world: World, device: Device) -> None:
    world.publish("1.1.0", Says(fails=True))
    with refused(device, RolledBackError, "the engine does not load"):
        device.once()
    assert [verdict.release.version for verdict in device.status.bad] == ["1.1.0"]
    device.once()
    assert len(device.status.rollbacks) == 1


def test_a_model_that_does_not_load_for_lack_of_memory_blames_no_release(
    world: World, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("1.1.0", Says(fails=True))
    with monkeypatch.context() as short:
        short.setattr(ResourceSnapshot, "lack", lambda _room: "3 MiB of memory are available")
        with refused(device, LoadFailedError, "the engine does not load"):
            device.once()
    assert blamed(device) == []
    with refused(device, RolledBackError, "the engine does not load"):  # and with memory it is
        device.once()
    assert blamed(device) == ["1.1.0"]


def test_a_server_that_is_killed_once_while_it_loads_is_started_again(
    world: World, device: Device
) -> None:
    with device.running(poll_s=1) as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", Says(words="Paris", load_s=3))
        until = time.monotonic() + 60
        while not (loading := triton_processes(device.state / "logs" / "slot-b")):
            assert time.monotonic() < until
            time.sleep(0.05)
        for pid in loading:
            os.kill(pid, signal.SIGKILL)
        agent.wait_ready("1.1.0")
        assert "tried once more" in agent.log.read_text()
    assert (device.status.bad, device.status.rollbacks) == ((), ())
