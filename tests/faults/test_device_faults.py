"""Bad stores, bundles and disks: each with its message and exit code, and a slot that serves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forge import device as api
from forge.device.agent.cutover import Cutover
from forge.device.agent.slot_servers import SlotServers
from forge.device.gateway.config import GatewayConfig
from forge.device.shared.upstream import Upstream
from forge.errors import (
    ConfigurationError,
    CorruptedError,
    FitError,
    RolledBackError,
    StoreError,
    TrustError,
    UsageError,
)
from tests.support.device_world import Device, Says, World, answers, refused, triton_processes

pytestmark = [pytest.mark.network]


@pytest.mark.real_triton
def test_a_store_that_is_gone_is_said_and_the_device_serves_on(
    world: World, device: Device
) -> None:
    (world.folder / "store").rename(world.folder / "elsewhere")
    with refused(device, StoreError, f"No store at {world.store_url}"):
        device.once()
    assert answers(device) == "The capital is Paris"
    (world.folder / "elsewhere").rename(world.folder / "store")
    world.publish("1.1.0")
    device.once()
    assert device.home.current() == "b"


@pytest.mark.real_triton
def test_a_damaged_pack_is_never_served_and_another_version_installs(
    world: World, device: Device
) -> None:
    world.publish("1.1.0", Says(words="Paris, damaged", ballast=310_000))
    packs = sorted(
        (world.folder / "store" / "packs").rglob("*"), key=lambda one: one.stat().st_mtime_ns
    )
    for pack in [path for path in packs if path.is_file()][-3:]:
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)
    with refused(device, CorruptedError, "damaged"):
        device.once()
    assert device.status.bad == ()  # the store's fault, not the bundle's


def test_metadata_signed_by_strangers_is_refused(
    world: World, device: Device, tmp_path: Path
) -> None:
    stranger = World(tmp_path / "stranger", fresh_keys=True)
    stranger.publish("9.0.0")
    shutil.rmtree(world.folder / "store")
    shutil.copytree(stranger.folder / "store", world.folder / "store")
    with refused(device, TrustError, "not signed by enough trusted keys"):
        device.once()


def test_a_store_that_was_rolled_back_is_refused(world: World, device: Device) -> None:
    shutil.copytree(world.folder / "store", world.folder / "old")
    world.publish("1.1.0")
    device.once()
    shutil.rmtree(world.folder / "store")
    (world.folder / "old").rename(world.folder / "store")
    with pytest.raises(TrustError) as caught:
        device.once()
    assert caught.value.exit_code == 7
    assert device.status.release is not None
    assert device.status.release.version == "1.1.0"


def test_expired_metadata_is_refused(world: World, device: Device) -> None:
    late = World(world.folder, clock=lambda: datetime.now(UTC) - timedelta(days=4000))
    late.publish("1.1.0")
    with refused(device, TrustError, "expired"):
        device.once()


def test_proofs_of_another_bundle_are_refused_and_the_release_is_remembered(
    world: World, device: Device
) -> None:
    other = world.publish("1.1.0", Says(words="Paris one"), channel="other")
    world.publish("1.2.0", Says(words="Paris two"), proofs=other.proofs)
    with refused(device, RolledBackError, "provenance of this bundle could not be verified"):
        device.once()
    [verdict] = device.status.bad
    assert verdict.release.version == "1.2.0"
    assert answers(device) == "The capital is Paris"


def test_an_engine_that_is_not_what_was_signed_is_refused(world: World, device: Device) -> None:
    world.publish("1.1.0", Says(words="Paris"), tamper="model.sig")
    with refused(device, RolledBackError, "engine's model signature could not be verified"):
        device.once()


def test_a_bundle_without_proofs_is_refused(world: World, device: Device) -> None:
    world.publish("1.1.0", Says(words="Paris"), tamper="provenance.dsse.json")
    with refused(device, RolledBackError, "provenance"):
        device.once()
    # Proofs come first: nothing of the bundle itself was downloaded.
    assert not device.home.slots.tree("b").exists()
    assert list(device.home.slots.folder("b").glob(".tree*")) == []


def test_a_channel_that_is_not_published_is_named(world: World, device: Device) -> None:
    api.provision(device.state, world.store_url, world.root, "llm", "nightly")
    with refused(device, StoreError, "llm has no channel 'nightly'"):
        device.once()


def test_an_unknown_profile_is_refused_with_the_one_meant(device: Device) -> None:
    with refused(device, UsageError, "did you mean 'development'"):
        api.run(device.state, once=True, profile="developmnt")


def test_a_disk_without_room_is_a_refusal_with_the_amount(world: World, device: Device) -> None:
    world.publish("1.1.0", Says(words="Paris"), free_disk_mib=10**9)
    with refused(device, FitError, r"free \d+ MiB or move the state directory"):
        device.once()


def test_a_root_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"not TUF root metadata"):
        api.provision(tmp_path, "/store", b"{}", "llm", "stable")
    assert list(tmp_path.iterdir()) == []


def test_a_second_agent_is_told_who_the_first_is(device: Device) -> None:
    with device.running(poll_s=600) as agent:
        argv = [sys.executable, "-m", "forge", "device", "run", "--once"]
        argv += ["--state", str(device.state)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert f"process {agent.process.pid}" in done.stderr
        agent.wait_ready("1.0.0")


def test_a_port_that_is_taken_is_said_before_anything_starts(device: Device) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with refused(device, UsageError, f"cannot listen on 127.0.0.1:{port}"):
            api.run(device.state, gateway_config=GatewayConfig(port=port))


FULL = """
import os, sys
from pathlib import Path
from forge import device
from forge.device.state.directory import StateDirectory
from forge.errors import ForgeError
state = Path(sys.argv[1])
write = StateDirectory.write_journal
def fill(home, journal):
    write(home, journal)
    if journal.state == sys.argv[2]:
        with open(state / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
StateDirectory.write_journal = fill
try:
    device.run(state, once=True)
except ForgeError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


@pytest.mark.real_triton
@pytest.mark.skipif(
    subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode != 0,
    reason="this kernel lets nobody but root mount a small disk for the test",
)
@pytest.mark.parametrize("state", ["fetching", "activating", "probing", "rolling-back"])
def test_a_disk_that_fills_up_leaves_the_old_slot_and_heals(
    world: World, device: Device, tmp_path: Path, state: str
) -> None:
    words = "Rome" if state == "rolling-back" else "Paris again"
    world.publish("1.1.0", Says(words=words, ballast=20_000_000))
    script = tmp_path / "full.py"
    script.write_text(FULL)
    # A disk of its own, in a mount namespace of its own: nothing is left of it afterwards. With
    # less than 64 MiB left nothing would be held against the release.
    shell = f"""
        mount -t tmpfs -o size=192m tmpfs '{tmp_path}/disk' &&
        cp -a '{device.state}' '{tmp_path}/disk/state' &&
        '{sys.executable}' '{script}' '{tmp_path}/disk/state' {state}; echo "exit $?"
        readlink '{tmp_path}/disk/state/current'
        rm '{tmp_path}/disk/state/filler'
        '{sys.executable}' -m forge device run --once --state '{tmp_path}/disk/state'
        echo "then $?"
        readlink '{tmp_path}/disk/state/current'
    """
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", shell], capture_output=True, text=True, timeout=120, check=False
    )
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(("exit", "then", "slots"))
    ]
    after = "slots/a" if state == "rolling-back" else "slots/b"
    assert lines == ["exit 9", "slots/a", "then 0", after], done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "free disk space" in done.stderr


def test_a_server_too_busy_to_answer_at_the_switch_gets_the_requests_all_the_same(
    device: Device,
) -> None:
    release = device.home.journal().active_release
    assert release is not None
    servers, upstream = SlotServers(device.home, dict), Upstream()
    cutover = Cutover(upstream, servers)
    servers.start("a")
    stopped = triton_processes(device.state)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        cutover.activate("a", release)
        assert time.monotonic() - begin < 5
        serving, _ = upstream.get()
        assert serving is not None
        assert serving.triton.startswith("2.")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        cutover.stop("the test is over")
