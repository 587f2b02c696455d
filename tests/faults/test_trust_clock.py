"""Clocks that stand at 1970, run ahead or jump, and what expiry means then.

The library of faketime lies to a process of its own; the rest is told the time as an argument.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forge.errors import TrustError
from forge.trust.client import TrustedStore
from forge.trust.clock import WRITTEN
from tests.support.release_world import NOW, World

PROJECT = Path(__file__).parents[2]
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CODE = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from forge.errors import ForgeError
from forge.store import open_objects
from forge.trust.client import TrustedStore
store, state, root = sys.argv[1:]
client = TrustedStore(open_objects(store), Path(state), Path(root).read_bytes())
try:
    client.refresh()
    print(datetime.now(UTC).year, client.channel("demo", "canary").version)
except ForgeError as error:
    print(datetime.now(UTC).year, error)
    sys.exit(error.exit_code)
"""


def under(world: World, clock: str) -> subprocess.CompletedProcess[str]:
    """A client in a process whose clock says `clock`."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed: apt-get install faketime")
    root = world.keys / "metadata" / "1.root.json"
    store, state = world.folder / "store", world.folder / "device"
    argv = [faketime, "-f", clock, sys.executable, "-c", CODE, str(store), str(state), str(root)]
    return subprocess.run(
        argv,
        cwd=PROJECT,
        env={**os.environ, "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def client(world: World, now: datetime) -> TrustedStore:
    root = (world.keys / "metadata" / "1.root.json").read_bytes()
    return TrustedStore(world.objects, world.folder / "device", root, now=now)


def newest(found: TrustedStore) -> str:
    found.refresh()
    return found.channel("demo", "canary").version


def test_device_without_a_clock_updates(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    done = under(world, "@1970-01-02 00:00:00")
    assert done.stdout.split() == ["1970", "1.0.0"], done
    assert "set the clock" in done.stderr
    world.now += 5 * DAY
    world.publish("1.1.0")
    assert under(world, "@1970-01-01 00:00:10").stdout.split() == ["1970", "1.1.0"]


def test_device_whose_clock_is_far_ahead_refuses_and_is_well_afterwards(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    assert newest(client(world, NOW)) == "1.0.0"
    done = under(world, "@2099-01-01 00:00:00")
    assert done.returncode == 7
    assert done.stdout.startswith("2099 ")
    assert "has expired" in done.stdout
    assert "date -u" in done.stdout
    assert newest(client(world, NOW)) == "1.0.0"
    world.now += DAY
    world.publish("1.1.0")
    assert newest(client(world, world.now)) == "1.1.0"


def test_clock_that_jumps_about_is_judged_by_the_newest_signature(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    for moment in (NOW, EPOCH, NOW + DAY, NOW - 400 * DAY, NOW + 2 * DAY, EPOCH):
        assert newest(client(world, moment)) == "1.0.0"


def test_expiry_holds_at_1970_once_something_newer_was_seen(tmp_path: Path) -> None:
    """Its state is lost, its clock too: a mirror that was frozen before that is not believed."""
    world = World(tmp_path)
    world.publish("1.0.0")
    shutil.copytree(tmp_path / "store", tmp_path / "frozen")
    world.now += 30 * DAY
    world.publish("1.1.0")
    assert newest(client(world, world.now)) == "1.1.0"
    shutil.rmtree(tmp_path / "device" / "metadata")
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(tmp_path / "frozen", tmp_path / "store")
    with pytest.raises(TrustError, match="has expired"):
        newest(client(world, EPOCH))


def test_metadata_older_than_this_program_is_expired_at_1970(tmp_path: Path) -> None:
    world = World(tmp_path, now=WRITTEN - 60 * DAY)
    world.publish("1.0.0")
    with pytest.raises(TrustError, match="has expired"):
        newest(client(world, EPOCH))


def test_clock_that_was_a_little_ahead_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    assert newest(client(world, NOW + 6 * DAY)) == "1.0.0"
    kept = json.loads((tmp_path / "device" / "time.json").read_bytes())
    assert kept["signed_at"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}"


def far_ahead(world: World) -> datetime:
    """Publish 1.0.0, then sign all of it on a host whose clock is far ahead; the right time."""
    world.publish("1.0.0")
    honest = world.now
    world.now = honest + 300 * DAY  # what is signed there expires 300 days too late
    world.refresh()
    world.now = honest + DAY
    return world.now


def test_publisher_whose_clock_was_far_ahead_locks_no_device(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    right = far_ahead(world)
    assert newest(client(world, right)) == "1.0.0"
    assert "check both its clock and the publisher's" in caplog.text
    assert not (tmp_path / "device" / "time.json").exists()
    world.refresh()
    world.publish("1.1.0")
    assert newest(client(world, right)) == "1.1.0"
    kept = json.loads((tmp_path / "device" / "time.json").read_bytes())
    assert kept["signed_at"] == f"{right:%Y-%m-%dT%H:%M:%SZ}"


def test_device_without_a_clock_is_well_once_the_moment_far_ahead_is_removed(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    right = far_ahead(world)
    assert newest(client(world, EPOCH)) == "1.0.0"
    world.publish("1.1.0")
    for clock in (EPOCH, right):  # its clock was set meanwhile: that alone does not help
        with pytest.raises(TrustError, match="has expired"):
            newest(client(world, clock))
    (tmp_path / "device" / "time.json").unlink()
    assert newest(client(world, right)) == "1.1.0"


def test_moment_far_ahead_signed_with_a_stolen_key_is_undone_by_its_rotation(
    tmp_path: Path,
) -> None:
    """Of a device without a clock: one with a clock does not keep that moment at all."""
    world = World(tmp_path)
    world.publish("1.0.0")
    honest = world.now
    world.now = honest + 20 * DAY  # what the thief signs: all of it from the future, and valid then
    world.refresh()
    assert newest(client(world, EPOCH)) == "1.0.0"
    world.now = honest
    world.rotate("online")
    world.publish("1.1.0")
    assert newest(client(world, EPOCH)) == "1.1.0"
    kept = json.loads((tmp_path / "device" / "time.json").read_bytes())
    assert kept["signed_at"] == f"{honest:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    ("days", "said"),
    [(-2, "was signed on 2026-11-24"), (300, "expired on 2026-12-01"), (0.5, ""), (7.5, "")],
)
def test_publisher_is_told_when_its_clock_and_the_store_disagree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: float, said: str
) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    world.now = NOW + days * DAY
    world.refresh()
    assert said in caplog.text
    assert ("Check this machine's clock" in caplog.text) == bool(said)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"signed_at": 5}', b"\xff" * 100_000])
def test_bound_that_is_damaged_counts_as_lost(tmp_path: Path, damage: bytes) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    assert newest(client(world, NOW)) == "1.0.0"
    (tmp_path / "device" / "time.json").write_bytes(damage)
    assert newest(client(world, NOW)) == "1.0.0"
    assert json.loads((tmp_path / "device" / "time.json").read_bytes())["keys"]
