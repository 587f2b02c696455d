"""The client on an honest store: what it reads, keeps and how often it asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forge.errors import NotInStoreError, UsageError
from forge.store.backends.protocol import Stored
from forge.trust.client import TrustedStore
from tests.support.release_world import NOW, World, Wrapped, manifest


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.publish("1.0.0", "development", "other")
    return made


class Counted(Wrapped):
    """A store that remembers what was read and how many bytes."""

    def __init__(self, world: World) -> None:
        super().__init__(world.objects, lambda _: None)
        self.names: list[str] = []
        self.bytes = 0

    def read(self, name: str, *, max_bytes: int) -> Stored:
        self.names.append(name)
        stored = self.inner.read(name, max_bytes=max_bytes)
        self.bytes += len(stored.data)
        return stored


def look(world: World, objects: Counted) -> None:
    root = (world.keys / "metadata/1.root.json").read_bytes()
    client = TrustedStore(objects, world.folder / "device", root, now=NOW)
    client.refresh()
    version = client.channel("demo", "canary").version
    client.manifest("demo", version, "development")
    client.proof_keys()


def test_client_reads_what_was_published(world: World) -> None:
    client = world.client()
    client.refresh()
    channel = client.channel("demo", "canary")
    assert (channel.version, sorted(channel.profiles)) == ("1.0.0", ["development", "other"])
    assert client.manifest("demo", "1.0.0", "other") == manifest("1.0.0", "other")


def test_check_of_an_unchanged_store_reads_the_timestamp_and_nothing_else(world: World) -> None:
    look(world, Counted(world))
    again = Counted(world)
    look(world, again)
    assert again.names == ["tuf/metadata/2.root.json", "tuf/metadata/timestamp.json"]
    assert again.bytes < 1024


def test_changed_store_is_read_as_far_as_it_changed(world: World) -> None:
    look(world, Counted(world))
    world.publish("1.1.0")
    again = Counted(world)
    look(world, again)
    roles = [name.split(".")[-2].rpartition("/")[2] for name in again.names if "metadata" in name]
    assert roles == ["root", "timestamp", "snapshot", "channels", "bundles"]


def test_reading_before_refresh_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="refresh"):
        world.client().channel("demo", "canary")


@pytest.mark.parametrize(
    ("name", "channel", "says"),
    [
        ("demo", "stable", "demo has no channel 'stable'.*known: canary"),
        ("other", "canary", "channels/other/canary.json is not published.*known: demo"),
        ("demo", "canar", "demo has no channel 'canar'.*did you mean 'canary'"),
    ],
)
def test_channel_that_is_not_published_is_named_with_those_that_are(
    world: World, name: str, channel: str, says: str
) -> None:
    client = world.client()
    client.refresh()
    with pytest.raises(NotInStoreError, match=f"(?s){says}"):
        client.channel(name, channel)


@pytest.mark.parametrize("name", ["", "..", "a/b", "*", "Demo", "a" * 64])
def test_name_that_is_none_is_refused(world: World, name: str) -> None:
    client = world.client()
    client.refresh()
    with pytest.raises(UsageError):
        client.channel(name, "canary")
    with pytest.raises(UsageError):
        client.manifest("demo", "1.0.0", name)


def test_cache_of_targets_stays_small(world: World) -> None:
    client = world.client()
    for number in range(1, 20):
        world.publish(f"1.{number}.0")
        client.refresh()
        version = client.channel("demo", "canary").version
        assert client.manifest("demo", version, "development").version == f"1.{number}.0"
    assert len(list((world.folder / "device/targets").iterdir())) <= 32


def test_importing_the_client_loads_no_tuf_and_no_publisher() -> None:
    program = (
        "import sys, forge.trust.client, forge.trust.proofs;"
        "print([n for n in ('tuf', 'cryptography', 'model_signing', 'securesystemslib',"
        " 'boto3', 'forge.release') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_files_that_a_killed_client_left_are_swept_and_metadata_is_not(world: World) -> None:
    world.client().refresh()
    folder = world.folder / "device"
    kept = {path for path in folder.rglob("*") if path.is_file()}
    (folder / "targets").mkdir(exist_ok=True)
    left = [folder / "metadata" / "tmpab12_x", folder / "targets" / ".tmp-ab12_x"]
    for path in left:
        path.write_bytes(b"half")
    (folder / "metadata" / "tmpl.json").write_bytes(b"{}")  # a role may be called so
    world.client().refresh()
    assert [path for path in left if path.exists()] == []
    assert (folder / "metadata" / "tmpl.json").exists()
    assert {path for path in kept if not path.exists()} == set()
