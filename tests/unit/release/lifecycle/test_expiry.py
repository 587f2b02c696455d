"""When each role's signatures expire."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Signed

from forge.errors import TrustError
from forge.release.keys.model import Expiry
from forge.release.lifecycle.expiry import RoleStatus, status
from tests.support.release_world import NOW, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, memory=True)
    made.publish("1.0.0")
    return made


def found(world: World, *, days: float = 0) -> dict[str, RoleStatus]:
    rows = status(world.objects, world.ring(), NOW + timedelta(days=days))
    return {row.role: row for row in rows}


def test_every_published_role_has_a_row_in_the_order_of_trust(world: World) -> None:
    assert list(found(world)) == ["root", "targets", "bundles", "channels", "snapshot", "timestamp"]


def test_new_store_has_rows_for_root_and_targets_only(tmp_path: Path) -> None:
    rows = found(World(tmp_path, memory=True))
    assert list(rows) == ["root", "targets"]
    assert rows["targets"].version == 1


def test_rows_say_what_python_tuf_reads_from_the_metadata(world: World) -> None:
    world.rotate("channels")
    for role, row in found(world).items():
        file = "timestamp" if role == "timestamp" else f"{row.version}.{role}"
        data = world.objects.read(f"tuf/metadata/{file}.json", max_bytes=10**7).data
        signed: Signed = Metadata.from_bytes(data).signed
        assert signed.type == ("targets" if role in {"bundles", "channels"} else role)
        assert (row.version, row.expires) == (signed.version, f"{signed.expires:%FT%TZ}")
        assert row.days_left == pytest.approx((signed.expires - NOW).total_seconds() / 86400)


@pytest.mark.parametrize(
    ("days", "alarm"),
    [(0, "ok"), (3.4, "ok"), (3.6, "due"), (5.2, "due"), (5.3, "warning"), (6.9, "warning"),
     (7, "expired"), (70, "expired")],
)  # fmt: skip
def test_alarm_follows_the_share_of_validity_that_is_left(
    world: World, days: float, alarm: str
) -> None:
    assert found(world, days=days)["timestamp"].alarm == alarm


def test_share_is_that_of_the_validity_in_the_keys_file(tmp_path: Path) -> None:
    world = World(tmp_path, expiry=Expiry(timestamp=70), memory=True)
    world.publish("1.0.0")
    assert found(world, days=30)["timestamp"].alarm == "ok"
    assert found(world, days=40)["timestamp"].alarm == "due"


def test_keys_are_named_and_snapshot_and_timestamp_have_the_online_key(world: World) -> None:
    rows = found(world)
    assert rows["root"].keys == ("root-1", "root-2", "root-3")
    assert rows["root"].threshold == 2
    assert rows["snapshot"].keys == rows["timestamp"].keys == ("online",)
    assert rows["bundles"].keys == ("bundles",)


@pytest.mark.parametrize(
    ("missing", "unsignable"),
    [
        ([], set()),
        (["root-1"], set()),
        (["root-1", "root-3"], {"root"}),
        (["online"], {"snapshot", "timestamp"}),
        (["bundles"], {"bundles"}),
    ],
)
def test_role_without_enough_private_keys_is_not_signable(
    world: World, missing: list[str], unsignable: set[str]
) -> None:
    for name in missing:
        (world.keys / f"{name}.pem").unlink()
    assert {role for role, row in found(world).items() if not row.signable} == unsignable


def test_key_that_the_folder_does_not_know_is_shown_by_its_id(world: World) -> None:
    keyring = world.ring()
    (entry,) = keyring.entries("channels")
    kept = tuple(one for one in keyring.file.keys if one.name != "channels")
    keyring.save(keyring.file.model_copy(update={"keys": kept}))
    row = found(world)["channels"]
    assert row.keys == (entry.keyid[:12],)
    assert not row.signable


def test_root_that_only_the_store_has_is_reported(world: World) -> None:
    world.rotate("root", replace="root-1")
    (world.keys / "metadata" / "2.root.json").unlink()
    row = found(world)["root"]
    assert (row.version, row.keys) == (2, ("root-2", "root-3", "root-4"))


@pytest.mark.parametrize("rotated", ["", "ours", "theirs"])
def test_keys_of_another_root_are_refused(tmp_path: Path, rotated: str) -> None:
    worlds = {
        "ours": World(tmp_path / "ours", memory=True),
        "theirs": World(tmp_path / "theirs", expiry=Expiry(), memory=True),  # makes keys of its own
    }
    for world in worlds.values():
        world.publish("1.0.0")
    if rotated:
        worlds[rotated].rotate("root", replace="root-1")
    with pytest.raises(TrustError, match="other keys") as caught:
        status(worlds["ours"].objects, worlds["theirs"].ring(), NOW)
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("role", ["root", "targets"])
def test_folder_without_metadata_is_named(tmp_path: Path, role: str) -> None:
    world = World(tmp_path, memory=True)
    (world.keys / "metadata" / f"1.{role}.json").unlink()
    with pytest.raises(TrustError, match=f"has no {role} metadata") as caught:
        found(world)
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"signed": 1}', json.dumps(7).encode()])
def test_metadata_that_is_not_valid_is_named(tmp_path: Path, data: bytes) -> None:
    world = World(tmp_path, memory=True)
    (world.keys / "metadata" / "1.root.json").write_bytes(data)
    with pytest.raises(TrustError, match="root metadata is not valid"):
        found(world)
