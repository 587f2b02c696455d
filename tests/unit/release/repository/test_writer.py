"""Write one edit, the timestamp last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from forge.errors import ConflictError, TrustError
from forge.release.lifecycle import ceremony
from forge.release.repository import writer as module
from forge.release.repository.edit import Edit
from forge.release.repository.state import DELEGATED, load_state
from forge.release.repository.writer import Writer
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import NOW, World, Wrapped

TIMESTAMP = "tuf/metadata/timestamp.json"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def writer(
    world: World, change: Callable[[Edit], None] = lambda _: None, names: list[str] | None = None
) -> Writer:
    keyring = world.ring()
    state = load_state(world.objects, keyring)
    targets = {role: dict(state.roles[role].signed.targets) for role in DELEGATED}
    edit = Edit(targets, lambda: ProofKeys(build=(), model=()))
    change(edit)
    objects = Wrapped(world.objects, ([] if names is None else names).append)
    return Writer(objects, keyring, state, edit, world.now)


def channel(edit: Edit) -> None:
    edit.put("channels", "channels/demo/stable.json", b"{}", {"version": "1.0.0"})


def read(world: World, name: str) -> bytes:
    return world.objects.read(name, max_bytes=10**7).data


def test_first_write_is_root_targets_roles_snapshot_and_last_the_timestamp(world: World) -> None:
    names: list[str] = []
    writer(world, names=names).write()
    order = [name.rpartition("/")[2] for name in names]
    assert order[0] == "1.root.json"
    assert order[1].endswith(".proofs.json")
    assert order[2:] == [
        "1.targets.json", "1.bundles.json", "1.channels.json", "1.snapshot.json", "timestamp.json",
    ]  # fmt: skip


def test_timestamp_leads_by_digests_to_all_that_was_written(world: World) -> None:
    writer(world, channel).write()
    timestamp = Metadata[Timestamp].from_bytes(read(world, TIMESTAMP)).signed
    assert timestamp.expires == NOW + timedelta(days=7)
    assert timestamp.unrecognized_fields["signed_at"] == "2026-11-24T04:00:00Z"
    data = read(world, f"tuf/metadata/{timestamp.snapshot_meta.version}.snapshot.json")
    timestamp.snapshot_meta.verify_length_and_hashes(data)
    snapshot = Metadata[Snapshot].from_bytes(data).signed
    assert set(snapshot.meta) == {"targets.json", "bundles.json", "channels.json"}
    for file, meta in snapshot.meta.items():
        found = read(world, f"tuf/metadata/{meta.version}.{file}")
        meta.verify_length_and_hashes(found)
        assert Metadata[Targets].from_bytes(found).signed.version == meta.version
    world.client().refresh()


def test_role_without_a_change_is_not_signed_again(world: World) -> None:
    writer(world).write()
    names: list[str] = []
    writer(world, channel, names).write()
    written = [name.rpartition("/")[2] for name in names]
    assert written[1:] == ["2.channels.json", "2.snapshot.json", "timestamp.json"]
    assert written[0].endswith(".stable.json")


def test_nothing_is_due_right_after_a_write(world: World) -> None:
    assert writer(world).due()
    writer(world).write()
    assert not writer(world).due()
    assert writer(world, channel).due()


@pytest.mark.parametrize(("days", "due"), [(3.4, False), (3.6, True)])
def test_timestamp_past_half_its_validity_is_due(world: World, days: float, due: object) -> None:
    writer(world).write()
    world.later(days=days)
    assert writer(world).due() is due


def test_delegated_role_is_due_only_where_its_key_is(world: World) -> None:
    writer(world).write()
    world.later(days=46)  # bundles and channels: 90 days
    names: list[str] = []
    (world.keys / "bundles.pem").unlink()
    writer(world, names=names).write()
    written = {name.rpartition("/")[2] for name in names}
    assert "2.channels.json" in written
    assert "2.bundles.json" not in written


def test_files_of_a_killed_publisher_are_skipped_and_kept(world: World) -> None:
    writer(world).write()
    for name in ("2.channels", "2.snapshot", "3.snapshot"):
        world.objects.write(f"tuf/metadata/{name}.json", b"left")
    writer(world, channel).write()
    timestamp = Metadata[Timestamp].from_bytes(read(world, TIMESTAMP)).signed
    assert timestamp.snapshot_meta.version == 4
    snapshot = Metadata[Snapshot].from_bytes(read(world, "tuf/metadata/4.snapshot.json")).signed
    assert snapshot.meta["channels.json"].version == 3
    assert read(world, "tuf/metadata/2.channels.json") == b"left"


def test_too_many_files_of_killed_publishers_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_SKIPPED_VERSIONS", 2)
    writer(world).write()
    for version in (2, 3):
        world.objects.write(f"tuf/metadata/{version}.channels.json", b"left")
    with pytest.raises(ConflictError, match="2 versions of channels metadata") as caught:
        writer(world, channel).write()
    assert "tuf/metadata/N.channels.json with N from 2 on" in caught.value.hint


def test_timestamp_that_changed_since_it_was_read_is_a_conflict(world: World) -> None:
    writer(world).write()
    slow = writer(world, channel)
    writer(world, channel).write()
    before = read(world, TIMESTAMP)
    with pytest.raises(ConflictError):
        slow.write()
    assert read(world, TIMESTAMP) == before


def test_two_first_publishers_do_not_overwrite_each_other(world: World) -> None:
    slow = writer(world, channel)
    writer(world).write()
    with pytest.raises(ConflictError):
        slow.write()


def test_root_that_removes_a_key_is_written_after_the_timestamp(world: World) -> None:
    writer(world).write()
    keyring = world.ring()
    state = load_state(world.objects, keyring)
    ceremony.replace_key(keyring, state, "online", world.now, replace=None, revoke=False, uri=None)
    names: list[str] = []
    writer(world, names=names).write()
    order = [name.rpartition("/")[2] for name in names]
    assert order.index("2.root.json") < order.index("timestamp.json") < order.index("3.root.json")


@pytest.mark.parametrize("days", [365, 400])
def test_expired_root_or_targets_is_refused_before_anything_is_written(
    world: World, days: float
) -> None:
    names: list[str] = []
    world.later(days=days)
    with pytest.raises(TrustError, match="metadata expired on 2027-11-24") as caught:
        writer(world, names=names).write()
    assert names == []
    assert "forge keys refresh" in caught.value.hint


def test_interrupted_rotation_of_targets_is_refused(world: World) -> None:
    writer(world).write()
    keyring = world.ring()
    state = load_state(world.objects, keyring)
    ceremony.replace_key(keyring, state, "targets", world.now, replace=None, revoke=False, uri=None)
    (world.keys / "metadata" / "2.targets.json").unlink()
    with pytest.raises(TrustError, match="not signed with the newest targets key") as caught:
        writer(world).write()
    assert caught.value.why == "a rotation was interrupted"
    assert caught.value.exit_code == 7
