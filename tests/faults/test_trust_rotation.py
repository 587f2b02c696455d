"""Keys are replaced while old clients, new clients and thieves look on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp

from forge.errors import TrustError, UsageError
from forge.release.lifecycle.expiry import status
from tests.support.release_world import NOW, World

ROLES = ["online", "targets", "bundles", "channels", "model"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.publish("1.0.0")
    return made


def version(world: World, client: str, *, root: int = 1) -> str:
    trusted = world.client(client, root=root)
    trusted.refresh()
    return trusted.channel("demo", "canary").version


@pytest.mark.parametrize("role", ROLES)
def test_rotated_key_is_followed_by_a_client_with_the_old_root(world: World, role: str) -> None:
    assert version(world, "old") == "1.0.0"
    name = world.rotate(role)
    assert name == f"{role}-2"
    assert version(world, "old") == "1.0.0"
    world.publish("1.1.0")
    assert version(world, "old") == "1.1.0"
    assert version(world, "new, old root.json") == "1.1.0"
    newest = len(list((world.keys / "metadata").glob("*.root.json")))
    assert version(world, "new, new root.json", root=newest) == "1.1.0"


@pytest.mark.parametrize("role", ["online", "targets", "bundles", "channels"])
def test_rotated_key_signs_nothing_any_more(world: World, role: str) -> None:
    old = {entry.name: entry.keyid for entry in world.ring().file.keys}[role]
    world.rotate(role)
    world.publish("1.1.0")
    newest = world.folder / "store/tuf/metadata"
    for row in status(world.objects, world.ring(), world.now):
        assert role not in row.keys
        name = "timestamp" if row.role == "timestamp" else f"{row.version}.{row.role}"
        assert old not in Metadata.from_file(str(newest / f"{name}.json")).signatures


def test_every_root_key_can_be_replaced_one_after_the_other(world: World) -> None:
    assert version(world, "old") == "1.0.0"
    for number in (1, 2, 3):
        assert world.rotate("root", replace=f"root-{number}") == f"root-{number + 3}"
        (world.keys / f"root-{number}.pem").unlink()
    world.publish("1.1.0")
    assert version(world, "old") == "1.1.0"
    assert version(world, "new") == "1.1.0"
    rows = {row.role: row for row in status(world.objects, world.ring(), world.now)}
    assert rows["root"].keys == ("root-4", "root-5", "root-6")
    assert rows["root"].threshold == 2


def test_lost_root_key_is_replaced_with_the_two_others(world: World) -> None:
    (world.keys / "root-1.pem").unlink()
    assert world.rotate("root", replace="root-1") == "root-4"
    assert version(world, "old") == "1.0.0"


def test_root_rotation_without_a_name_says_which_there_are(world: World) -> None:
    with pytest.raises(UsageError, match="is not a root key in use") as caught:
        world.rotate("root")
    assert "root-1, root-2, root-3" in caught.value.hint
    assert not (world.keys / "root-4.pem").exists()


def test_rotation_without_enough_root_keys_changes_nothing(world: World) -> None:
    for name in ("root-1.pem", "root-2.pem"):
        (world.keys / name).rename(world.folder / name)
    with pytest.raises(UsageError, match="cannot sign for the role root") as caught:
        world.rotate("online")
    assert not (world.keys / "online-2.pem").exists()
    assert "missing: root-1, root-2" in caught.value.why
    world.publish("1.1.0")
    assert version(world, "old") == "1.1.0"
    for name in ("root-1.pem", "root-2.pem"):
        (world.folder / name).rename(world.keys / name)
    world.rotate("online")
    assert version(world, "old") == "1.1.0"


def test_thief_of_the_online_key_is_shut_out_by_its_rotation(world: World) -> None:
    """Also after a fast-forward: the client has seen version 1000 of the thief."""
    ring = world.ring()
    stolen = ring.signer(ring.entries("online")[0])
    path = world.folder / "store/tuf/metadata/timestamp.json"

    def steal(number: int) -> None:
        timestamp = Metadata[Timestamp].from_file(str(path)).signed
        timestamp.version = number
        metadata = Metadata(timestamp)
        metadata.sign(stolen)
        path.write_bytes(metadata.to_bytes())

    steal(1000)
    assert version(world, "old") == "1.0.0"
    world.rotate("online")
    assert version(world, "old") == "1.0.0"
    honest = path.read_bytes()
    steal(2000)
    with pytest.raises(TrustError, match="not signed by enough trusted keys"):
        version(world, "old")
    path.write_bytes(honest)
    world.publish("1.1.0")
    assert version(world, "old") == "1.1.0"


def test_proof_keys_outlive_rotation_but_not_revocation(world: World) -> None:
    client = world.client()

    def keys() -> tuple[int, int]:
        client.refresh()
        found = client.proof_keys()
        return len(found.build), len(found.model)

    assert keys() == (1, 1)
    world.rotate("bundles")
    world.rotate("model")
    assert keys() == (2, 2)
    world.rotate("bundles", revoke=True)
    assert keys() == (1, 2)
    world.rotate("model", revoke=True)
    assert keys() == (1, 1)


def test_machine_with_an_older_copy_of_the_keys_adopts_the_new_root(
    world: World, tmp_path: Path
) -> None:
    import shutil

    copy = World(tmp_path / "copy")
    shutil.rmtree(copy.keys)
    shutil.copytree(world.keys, copy.keys)
    copy.objects = world.objects
    world.rotate("channels")
    world.rotate("bundles")
    world.rotate("root", replace="root-2")
    with pytest.raises(UsageError, match="cannot sign for the role channels") as caught:
        copy.promote("1.0.0", "stable")
    assert "use the newest copy of the folder" in caught.value.hint
    assert copy.rotate("channels") == "channels-2"
    assert copy.rotate("bundles") == "bundles-2"
    copy.publish("1.1.0")
    assert version(world, "old") == "1.1.0"


@pytest.mark.parametrize("role", ["root", "targets"])
def test_refresh_leaves_offline_roles_alone_when_their_keys_are_away(
    world: World, role: str
) -> None:
    for path in world.keys.glob(f"{role}*.pem"):
        path.unlink()
    world.later(days=300)
    assert world.refresh()
    rows = {row.role: row for row in status(world.objects, world.ring(), world.now)}
    assert rows[role].alarm == "warning"
    assert not rows[role].signable
    assert rows["timestamp"].alarm == "ok"
    assert version(world, "old") == "1.0.0"


def test_refresh_signs_only_what_is_past_half_its_life(world: World) -> None:
    assert not world.refresh(force=False)
    world.later(days=4)
    assert world.refresh(force=False)
    assert not world.refresh(force=False)
    world.later(days=200)
    assert world.refresh(force=False)
    rows = {row.role: row for row in status(world.objects, world.ring(), world.now)}
    assert {row.alarm for row in rows.values()} == {"ok"}
    assert rows["root"].version == 2
    assert version(world, "old") == "1.0.0"


@pytest.mark.parametrize(
    ("days", "alarm"), [(0, "ok"), (4, "due"), (6, "warning"), (7, "expired"), (400, "expired")]
)
def test_missed_refresh_raises_an_alarm_before_clients_refuse(
    world: World, days: int, alarm: str
) -> None:
    world.later(days=days)
    rows = {row.role: row for row in status(world.objects, world.ring(), world.now)}
    assert rows["timestamp"].alarm == alarm
    if alarm == "expired":
        with pytest.raises(TrustError, match="has expired"):
            version(world, "old")
    else:
        assert version(world, "old") == "1.0.0"


def test_status_of_a_new_store_shows_root_and_targets(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = status(world.objects, world.ring(), NOW)
    assert [row.role for row in rows] == ["root", "targets"]
