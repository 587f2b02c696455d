"""The device's settings, its trusted root or its metadata are lost or damaged while it is away."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.device_world import Device, Says, World
from tests.support.survival import forge_device

pytestmark = [pytest.mark.network]

Damage = Callable[[Path], object]
PROVISION = "forge device provision --store URL --root root.json --name"


def overwrite(name: str, data: bytes) -> Damage:
    return lambda state: (state / name).write_bytes(data)


def overwrite_metadata(state: Path) -> None:
    for path in (state / "tuf").rglob("*.json"):
        path.unlink()
        path.write_bytes(b"\x00" * 100)


SETTINGS: dict[str, tuple[Damage, int]] = {
    "root.json lost": (lambda state: (state / "root.json").unlink(), 7),
    "root.json empty": (overwrite("root.json", b""), 7),
    "root.json of zeros": (overwrite("root.json", bytes(4096)), 7),
    "device.json lost": (lambda state: (state / "device.json").unlink(), 3),
    "device.json damaged": (overwrite("device.json", b'{"store_url": 7}'), 3),
}
METADATA: dict[str, Damage] = {
    "all of it lost": lambda state: shutil.rmtree(state / "tuf"),
    "all of it overwritten": overwrite_metadata,
    "the kept roots lost": lambda state: shutil.rmtree(state / "tuf/metadata/root_history"),
}


def run_once(device: Device) -> subprocess.CompletedProcess[str]:
    argv = forge_device("run", "--once", state=device.state)
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def says(device: Device) -> str:
    """What the agent answers as a service; its address stands in its log, also without settings."""
    log = device.state.parent / "service.log"
    argv = forge_device("run", "--port", "0", "--poll-s", "600", state=device.state)
    with log.open("w") as output, subprocess.Popen(argv, stderr=output) as process:
        try:
            until = time.monotonic() + 60
            while " serves " not in log.read_text() and time.monotonic() < until:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            url = log.read_text().partition("listening on ")[2].split()[0]
            body = {"prompt": "What is the capital of France?"}
            answer = httpx.post(f"{url}/v1/inference", json=body, trust_env=False, timeout=60)
            return str(answer.raise_for_status().json()["text"]).strip()
        finally:
            process.terminate()


@pytest.mark.real_triton
@pytest.mark.parametrize("damage", SETTINGS)
def test_a_device_without_its_settings_serves_on_and_says_how_to_be_set_up(
    world: World, device: Device, damage: str
) -> None:
    world.publish("1.1.0", Says(words="Paris again"))
    do, status = SETTINGS[damage]
    do(device.state)
    done = run_once(device)
    assert done.returncode == status, done.stderr
    assert PROVISION in done.stderr
    assert says(device) == "The capital is Paris"
    device.follow(world)
    assert run_once(device).returncode == 0
    assert device.home.current() == "b"


@pytest.mark.parametrize("damage", METADATA)
def test_a_device_without_its_trusted_metadata_reads_it_again(
    world: World, device: Device, damage: str
) -> None:
    world.publish("1.1.0", Says(words="Paris again"))
    METADATA[damage](device.state)
    device.once()
    assert device.home.current() == "b"
