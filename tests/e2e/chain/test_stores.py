"""The whole chain through a real S3 server, and after damage."""

from pathlib import Path

import pytest

from forge.store import open_store
from forge.store.formats.chunk_list import decode
from forge.store.formats.names import files_name, pack_name
from tests.support.project_world import RELEASE, ROOT, World
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.slow, pytest.mark.network]


def a_device(world: World, folder: Path, store: str, environment: dict[str, str]) -> list[str]:
    """Provision a device that shares this checkout's environments; its arguments for `run`."""
    folder.mkdir()
    (folder / "environments").symlink_to(ROOT / ".forge" / "environments")
    world.forge(
        "device", "provision", "--state", str(folder), "--store", store, "--name", "smollm2",
        "--root", str(world.keys / "root.json"), "--channel", "stable",
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
    world.forge("promote", "1.0.0", "stable", "--yes", *at, env=environment)
    run = a_device(world, tmp_path / "device", store, environment)
    said = world.forge(*run, env=environment).stderr
    assert "committed: slot a holds smollm2 1.0.0" in said
    again = world.forge(*run, env=environment).stderr
    assert "bytes fetched" not in again


def test_damaged_pack_is_never_served_and_is_healed_by_a_repair_and_a_run(
    world: World, tmp_path: Path
) -> None:
    store = str(world.project / "artifacts")
    opened = open_store(store)
    (manifest,) = world.json("bundle", "show", "1.0.0")
    entries = opened.tree(manifest["tree"]["digest"]).entries
    largest = max(entries, key=lambda entry: entry.size)
    encoded = opened.objects.read(files_name(largest.sha256), max_bytes=10_000_000).data
    chunk = next(iter(decode(encoded, size=largest.size, name="largest")))
    pack = world.project / "artifacts" / pack_name(chunk.pack.hex())
    data = bytearray(pack.read_bytes())
    data[chunk.offset + chunk.length // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    run = a_device(world, tmp_path / "device", store, {})

    refused = world.forge(*run, fails=9)
    assert "forge store verify --repair" in refused.stderr
    assert not (tmp_path / "device" / "current").exists()
    assert pack.name in world.forge("store", "verify", fails=9).stdout

    said = world.forge("store", "verify", "--repair").stdout
    assert "smollm2 1.0.0 for development can no longer be installed" in said
    world.release("1.0.0")
    assert "committed: slot a holds smollm2 1.0.0" in world.forge(*run).stderr
