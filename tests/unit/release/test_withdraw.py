"""Take back a channel or a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import NotInStoreError, UsageError
from forge.release.catalog import Catalog, live_trees
from forge.release.withdraw import remove_channel, yank
from tests.support.release_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, memory=True)
    made.publish("1.0.0", "development", "other")
    made.publish("1.1.0")
    return made


def test_devices_do_not_find_a_channel_that_was_removed(world: World) -> None:
    world.promote("1.0.0", "beta")
    assert remove_channel(world.store, world.ring(), "demo", "beta", now=world.now) == "1.0.0"
    client = world.client()
    client.refresh()
    assert client.channel("demo", "canary").version == "1.1.0"
    with pytest.raises(NotInStoreError, match=r"demo has no channel 'beta'"):
        client.channel("demo", "beta")
    assert client.channels() == {"demo": ["canary"]}
    world.promote("1.0.0", "beta")  # it may be created again
    client.refresh()
    assert client.channel("demo", "beta").version == "1.0.0"


@pytest.mark.parametrize(("name", "channel"), [("demo", "nosuch"), ("other", "canary")])
def test_channel_that_is_not_there_is_named(world: World, name: str, channel: str) -> None:
    with pytest.raises(UsageError, match=f"{name} has no channel '{channel}'") as caught:
        remove_channel(world.store, world.ring(), name, channel, now=world.now)
    assert caught.value.hint == f"its channels: {'canary' if name == 'demo' else 'none'}"


def test_version_on_a_channel_is_not_yanked(world: World) -> None:
    with pytest.raises(UsageError, match=r"1\.1\.0 is on the channel canary") as caught:
        yank(world.store, world.ring(), "demo", "1.1.0", now=world.now)
    assert "forge promote" in caught.value.hint
    assert not Catalog(world.objects).yanked("demo", "1.1.0")


def test_yanked_version_goes_on_no_channel_and_keeps_its_number(world: World) -> None:
    assert yank(world.store, world.ring(), "demo", "1.0.0", now=world.now) == [
        "development", "other",
    ]  # fmt: skip
    assert Catalog(world.objects).yanked("demo", "1.0.0")
    assert not Catalog(world.objects).yanked("demo", "1.1.0")
    for forced in (True, False):
        with pytest.raises(UsageError, match="was yanked on 2026-11-24T04:00:00Z"):
            world.promote("1.0.0", "beta", force=forced)
    with pytest.raises(UsageError, match="was yanked"):
        world.publish("1.0.0", channel="beta")
    assert "beta" not in Catalog(world.objects).channels("demo")
    assert yank(world.store, world.ring(), "demo", "1.0.0", now=world.now) == []
    client = world.client()  # what is signed stays valid
    client.refresh()
    assert client.manifest("demo", "1.0.0", "development").version == "1.0.0"


def test_trees_of_a_yanked_version_are_garbage(world: World) -> None:
    tree = Catalog(world.objects).manifest("demo", "1.0.0", "development").tree.digest
    assert tree in set(live_trees(world.store, keep=2))
    yank(world.store, world.ring(), "demo", "1.0.0", now=world.now)
    assert tree not in set(live_trees(world.store, keep=2))


def test_version_that_is_not_published_is_not_yanked(world: World) -> None:
    with pytest.raises(UsageError, match=r"demo 3\.0\.0 is not published"):
        yank(world.store, world.ring(), "demo", "3.0.0", now=world.now)
