"""A device whose store is one file: it installs from it alone, and nothing of a damaged one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from forge import device as api
from forge.device.source_check import check_source
from forge.errors import ForgeError, StoreError, UsageError
from forge.release.bundle_reader import BundlePart
from forge.store import open_store
from tests.support.device_world import Device, Says, World, environments
from tests.support.exported import exported
from tests.support.stores import snapshot

pytestmark = [pytest.mark.network]

FLIPS = 60


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def export(world: World, version: str, file: Path | None = None) -> Path:
    store = open_store(world.store_url, environment={}, cache=world.folder / "cache")
    part = BundlePart("llm", version, "development")
    return exported(store, world.root, part, file or world.folder / "bundle.forge").file


def device_of(world: World, file: Path, name: str = "offline") -> Device:
    """A device that knows the file only; the publisher's store is gone."""
    if (world.folder / "store").exists():
        (world.folder / "store").rename(world.folder / "unplugged")
    state = world.folder / name
    state.mkdir()
    (state / "environments").symlink_to(environments())
    api.provision(state, str(file), world.root, "llm", "stable")
    return Device(state)


def test_a_device_installs_and_serves_from_the_file_alone(world: World) -> None:
    world.publish("1.0.0")
    file = export(world, "1.0.0")
    assert check_source(str(file), world.root, "llm", "stable") == "1.0.0"
    device = device_of(world, file)
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        assert agent.ask() == "The capital is Paris"
        assert agent.stop() == 0
    installed = snapshot(device.home.slots.tree("a"))
    assert installed == snapshot(world.folder / "work-1.0.0-development" / "tree")


def test_the_next_file_under_the_same_name_is_the_next_update(world: World) -> None:
    world.publish("1.0.0")
    file = export(world, "1.0.0")
    world.publish("1.1.0", Says(words="It is Paris"))
    second = export(world, "1.1.0", world.folder / "second.forge")
    device = device_of(world, file)
    device.once()
    assert device.home.current() == "a"
    second.replace(file)
    device.once()
    assert device.home.current() == "b"
    assert device.status.release is not None
    assert device.status.release.version == "1.1.0"


def test_a_device_goes_back_to_no_older_file(world: World) -> None:
    world.publish("1.0.0")
    old = export(world, "1.0.0").read_bytes()
    world.publish("1.1.0")
    file = export(world, "1.1.0")
    device = device_of(world, file)
    device.once()
    file.write_bytes(old)
    with pytest.raises(ForgeError, match="older than the metadata seen before"):
        device.once()
    assert device.status.release is not None
    assert device.status.release.version == "1.1.0"


def test_nothing_of_a_damaged_file_is_activated(world: World) -> None:
    world.publish("1.0.0", Says(ballast=100_000))
    file = export(world, "1.0.0")
    data = file.read_bytes()
    for place in random.Random(1).sample(range(len(data)), FLIPS):  # noqa: S311  not for secrets
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        device = device_of(world, file, f"device-{place}")
        refused: ForgeError | None = None
        try:
            device.once()
        except ForgeError as error:
            refused = error
        if refused is not None:
            assert refused.exit_code in {7, 9}
            assert device.home.current() is None
            assert device.status.slot is None
        else:  # in bytes that this device does not read
            found = snapshot(device.home.slots.tree("a"))
            assert found == snapshot(world.folder / "work-1.0.0-development" / "tree")


def test_a_file_that_is_not_there_is_a_disk_to_mount(world: World) -> None:
    world.publish("1.0.0")
    file = export(world, "1.0.0")
    device = device_of(world, file)
    device.once()
    file.unlink()
    with pytest.raises(StoreError, match="No store at"):
        device.once()
    assert device.home.current() == "a"


def test_a_channel_that_is_not_in_the_file_is_refused_at_provisioning(world: World) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0", channel="beta")
    with pytest.raises(UsageError, match="'beta' of bundle llm is not in") as caught:
        check_source(str(export(world, "1.0.0")), world.root, "llm", "beta")
    assert "follow another channel" in caught.value.hint
