"""The whole chain through a real S3 server, and after damage."""

from pathlib import Path

import pytest

from tests.e2e.chain.world import RELEASE, ROOT, World
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.slow, pytest.mark.network]


def a_device(world: World, folder: Path, store: str, environment: dict[str, str]) -> list[str]:
    """Provision a device that shares this checkout's environments; its arguments for `run`."""
    folder.mkdir()
    (folder / "environments").symlink_to(ROOT / ".forge" / "environments")
    world.forge(
        "device", "provision", "--state", str(folder), "--store", store, "--name", "smollm2",
        "--root", str(world.project / ".forge/keys/root.json"), "--channel", "stable",
        env=environment,
    )  # fmt: skip
    return ["device", "run", "--once", "--state", str(folder)]


def test_chain_runs_through_s3_and_a_device_installs_from_it(
    world: World, seaweedfs: Seaweed, tmp_path: Path
) -> None:
    environment = seaweedfs.environment
    store = f"s3://{seaweedfs.bucket()}/forge"
    at = ("--store", store)
    world.forge("run", *RELEASE, "--version", "1.0.0", *at, env=environment)
    world.forge("promote", "1.0.0", "stable", *at, env=environment)
    run = a_device(world, tmp_path / "device", store, environment)
    said = world.forge(*run, env=environment).stderr
    assert "committed: slot a holds smollm2 1.0.0" in said
    again = world.forge(*run, env=environment).stderr
    assert "bytes fetched" not in again


def test_damaged_pack_is_never_served_and_is_healed_by_a_repair_and_a_run(
    world: World, tmp_path: Path
) -> None:
    store = str(world.project / "artifacts")
    largest = max((world.project / "artifacts/packs").glob("*/*"), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(data)
    run = a_device(world, tmp_path / "device", store, {})

    refused = world.forge(*run, fails=9)
    assert "forge store verify --repair" in refused.stderr
    assert not (tmp_path / "device" / "current").exists()
    assert largest.name in world.forge("store", "verify", fails=9).stdout

    world.forge("store", "verify", "--repair")
    world.release("1.0.0")
    assert "committed: slot a holds smollm2 1.0.0" in world.forge(*run).stderr
