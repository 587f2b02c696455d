"""What an attacker can do to a store, and what a client of it says.

Every attack is made on a really published repository; afterwards the honest store is put back and
the same client, with the state it kept, must go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from forge.bundle import Manifest, manifest_path
from forge.errors import ForgeError, NotInStoreError, StoreError, TrustError
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import Expiry
from forge.release.lifecycle import keys
from forge.release.publish import VersionTakenError
from forge.trust import layout
from forge.trust.client import TrustedStore
from tests.support.release_world import NOW, PASSPHRASE, World, manifest

EXIT_CODES = {TrustError: 7, StoreError: 9, NotInStoreError: 9}
LONG = Expiry(root=900, targets=900, bundles=900, channels=900, snapshot=900, timestamp=900)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Versions 1.0.0 and 1.1.0 published, canary at 1.1.0."""
    made = World(tmp_path)
    made.publish("1.0.0")
    made.publish("1.1.0")
    return made


def read_all(client: TrustedStore) -> str:
    """All a device reads; returns the version on canary."""
    client.refresh()
    channel = client.channel("demo", "canary")
    client.channel_manifest(channel, "development")
    client.proof_keys()
    return channel.version


def refused(
    world: World,
    attack: Callable[[Path], object],
    kind: type[ForgeError],
    message: str,
    *,
    online_key_stolen: bool = False,
) -> None:
    """`attack` makes a client that trusts the store refuse it; without it the client goes on.

    Where the thief has the online key, what it signed last may have a higher version than anything
    honest: then the key is rotated first.
    """
    client = world.client()
    assert read_all(client) == "1.1.0"
    with world.tampered() as tuf:
        attack(tuf)
        for one in (client, world.client()):  # in memory, and started again on the kept state
            with pytest.raises(kind, match=message) as caught:
                read_all(one)
            assert caught.value.exit_code == EXIT_CODES[kind]
            assert caught.value.hint
    if online_key_stolen:
        world.rotate("online")
    assert read_all(client) == "1.1.0"
    assert read_all(world.client()) == "1.1.0"
    world.publish("1.2.0")
    assert read_all(client) == "1.2.0"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the JSON of a metadata file and keep its signatures."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def newest(tuf: Path, role: str) -> Path:
    found = (tuf / "metadata").glob(f"*.{role}.json")
    return max(found, key=lambda path: int(path.name.split(".")[0]))


def signed_by(world: World, name: str, document: Any) -> bytes:
    """`document` signed with one of the publisher's keys, stolen."""
    ring = world.ring()
    entry = next(entry for entry in ring.file.keys if entry.name == name)
    metadata = Metadata(document)
    metadata.sign(ring.signer(entry))
    return metadata.to_bytes()


def republish(
    world: World, tuf: Path, *, snapshot: Snapshot | None = None, **roles: Targets
) -> None:
    """What a thief of the online key can do: any snapshot and timestamp, and other roles' files."""
    old = Metadata[Snapshot].from_file(str(newest(tuf, "snapshot"))).signed
    fresh = snapshot or Snapshot(version=old.version + 1, expires=old.expires, meta=dict(old.meta))
    for role, document in roles.items():
        data = signed_by(world, role, document)
        fresh.meta[f"{role}.json"] = MetaFile.from_data(document.version, data, ["sha256"])
        (tuf / "metadata" / f"{document.version}.{role}.json").write_bytes(data)
    data = signed_by(world, "online", fresh)
    (tuf / "metadata" / f"{fresh.version}.snapshot.json").write_bytes(data)
    timestamp = Metadata[Timestamp].from_file(str(tuf / "metadata" / "timestamp.json")).signed
    timestamp.version += 1
    timestamp.snapshot_meta = MetaFile.from_data(fresh.version, data, ["sha256"])
    (tuf / "metadata" / "timestamp.json").write_bytes(signed_by(world, "online", timestamp))


def delegated(tuf: Path, role: str) -> Targets:
    document = Metadata[Targets].from_file(str(newest(tuf, role))).signed
    document.version += 1
    return document


# Old metadata


def test_rolled_back_timestamp_is_refused(world: World, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    shutil.copy(tmp_path / "store/tuf/metadata/timestamp.json", old)
    world.refresh()
    refused(
        world,
        lambda tuf: shutil.copy(old, tuf / "metadata/timestamp.json"),
        TrustError,
        "older than the metadata seen before",
    )


def test_rolled_back_snapshot_is_refused_though_the_timestamp_is_new(world: World) -> None:
    def attack(tuf: Path) -> None:
        snapshot = Metadata[Snapshot].from_file(str(tuf / "metadata/1.snapshot.json")).signed
        republish(world, tuf, snapshot=snapshot)

    refused(
        world, attack, TrustError, "older than the metadata seen before", online_key_stolen=True
    )


def test_rolled_back_bundles_are_refused_though_snapshot_and_timestamp_are_new(
    world: World,
) -> None:
    def attack(tuf: Path) -> None:
        old = Metadata[Snapshot].from_file(str(tuf / "metadata/1.snapshot.json")).signed
        new = Metadata[Snapshot].from_file(str(newest(tuf, "snapshot"))).signed
        new.version += 1
        new.meta["bundles.json"] = old.meta["bundles.json"]
        republish(world, tuf, snapshot=new)

    refused(
        world, attack, TrustError, "older than the metadata seen before", online_key_stolen=True
    )


@pytest.mark.parametrize("role", ["snapshot", "targets", "bundles", "channels"])
def test_role_that_vanishes_is_refused_as_missing(world: World, role: str) -> None:
    """The client has the newest already, so the store first moves on."""
    client = world.client()
    assert read_all(client) == "1.1.0"
    world.rotate("model")
    world.publish("1.2.0")
    with world.tampered() as tuf:
        newest(tuf, role).unlink()
        with pytest.raises(StoreError, match="Release metadata is missing") as caught:
            read_all(client)
        assert caught.value.exit_code == 9
    assert read_all(client) == "1.2.0"


# Expired metadata


@pytest.mark.parametrize(
    ("role", "phrase"),
    [
        ("timestamp", "timestamp.json is expired"),
        ("snapshot", "snapshot.json is expired"),
        ("targets", "New targets is expired"),
        ("bundles", "New bundles is expired"),
        ("channels", "New channels is expired"),
        ("root", "root.json is expired"),
    ],
)
def test_expired_role_is_refused_until_it_is_signed_anew(
    tmp_path: Path, role: str, phrase: str
) -> None:
    world = World(tmp_path, expiry=LONG.model_copy(update={role: 10}))
    world.publish("1.0.0")
    assert read_all(world.client()) == "1.0.0"
    world.later(days=11)
    with pytest.raises(TrustError, match="has expired") as caught:
        read_all(world.client())
    assert caught.value.exit_code == 7
    assert phrase in caught.value.why
    assert "forge keys refresh" in caught.value.hint
    world.refresh()
    assert read_all(world.client()) == "1.0.0"


# Mixed and altered metadata


@pytest.mark.parametrize("role", ["snapshot", "targets", "bundles", "channels"])
def test_mixed_metadata_is_refused(world: World, role: str) -> None:
    """The newest number holds the bytes of an older one, or of another signature."""
    client = world.client()
    assert read_all(client) == "1.1.0"
    world.rotate("model")
    world.publish("1.2.0")
    with world.tampered() as tuf:
        shutil.copy(tuf / f"metadata/1.{role}.json", newest(tuf, role))
        with pytest.raises(TrustError, match="inconsistent or altered") as caught:
            read_all(client)
        assert caught.value.exit_code == 7
        assert "nothing was changed" in caught.value.hint
    assert read_all(client) == "1.2.0"


def test_altered_timestamp_is_refused_as_not_signed(world: World) -> None:
    def attack(tuf: Path) -> None:
        edit(tuf / "metadata/timestamp.json", lambda doc: doc["signed"].update(version=99))

    refused(world, attack, TrustError, "not signed by enough trusted keys")


def test_timestamp_of_a_strange_key_is_refused(world: World, tmp_path: Path) -> None:
    def attack(tuf: Path) -> None:
        keys.init(tmp_path / "strange", passphrase=PASSPHRASE, now=NOW)
        ring = Keyring(tmp_path / "strange", lambda: PASSPHRASE)
        timestamp = Metadata[Timestamp].from_file(str(tuf / "metadata/timestamp.json")).signed
        timestamp.version += 1
        metadata = Metadata(timestamp)
        metadata.sign(ring.signer(ring.entries("online")[0]))
        (tuf / "metadata/timestamp.json").write_bytes(metadata.to_bytes())

    refused(world, attack, TrustError, "not signed by enough trusted keys")


def test_snapshot_signed_by_the_build_key_is_refused(world: World) -> None:
    def attack(tuf: Path) -> None:
        republish(world, tuf)
        path = newest(tuf, "snapshot")
        data = signed_by(world, "bundles", Metadata[Snapshot].from_file(str(path)).signed)
        path.write_bytes(data)
        timestamp = Metadata[Timestamp].from_file(str(tuf / "metadata/timestamp.json")).signed
        version = timestamp.snapshot_meta.version
        timestamp.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
        (tuf / "metadata/timestamp.json").write_bytes(signed_by(world, "online", timestamp))

    refused(world, attack, TrustError, "not signed by enough trusted keys", online_key_stolen=True)


def test_root_below_its_threshold_is_refused(world: World) -> None:
    def attack(tuf: Path) -> None:
        root = Metadata[Root].from_file(str(tuf / "metadata/1.root.json")).signed
        root.version = 2
        root.roles["root"].threshold = 1
        (tuf / "metadata/2.root.json").write_bytes(signed_by(world, "root-1", root))

    refused(world, attack, TrustError, "root was signed by 1/2 keys")


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[" * 5000, b"\xff\xfe", b'{"signed": {}}'])
def test_timestamp_that_is_no_metadata_is_refused(world: World, data: bytes) -> None:
    def attack(tuf: Path) -> None:
        (tuf / "metadata/timestamp.json").write_bytes(data)

    refused(world, attack, TrustError, "is not valid")


def test_endless_timestamp_is_cut_off(world: World) -> None:
    def attack(tuf: Path) -> None:
        with (tuf / "metadata/timestamp.json").open("ab") as file:
            file.truncate(1 << 34)  # sparse: 16 GiB

    refused(world, attack, TrustError, "sent more bytes than this metadata may have")


def test_altered_target_is_refused(world: World) -> None:
    """A device that has the manifest already needs the store for nothing; a new one does."""
    with world.tampered() as tuf:
        for path in (tuf / "targets/bundles/demo/1.1.0").iterdir():
            edit(path, lambda doc: doc.update(profile="evil"))
        with pytest.raises(TrustError, match="does not match its signature") as caught:
            read_all(world.client())
        assert caught.value.exit_code == 7
    assert read_all(world.client()) == "1.1.0"


# Keys that do what they may not


def test_build_key_cannot_move_a_channel(world: World) -> None:
    evil = manifest("9.9.9", "development")

    def attack(tuf: Path) -> None:
        bundles = delegated(tuf, "bundles")
        channel = json.dumps({"name": "demo", "channel": "canary", "version": "9.9.9"}).encode()
        for path, data in (
            ("channels/demo/canary.json", channel),
            ("bundles/demo/9.9.9/development.json", evil.encode()),
        ):
            target = TargetFile.from_data(path, data, ["sha256"])
            bundles.targets[path] = target
            name = tuf.parent / layout.target_name(path, target.hashes["sha256"])
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes(data)
        republish(world, tuf, bundles=bundles)

    with world.tampered() as tuf:
        attack(tuf)
        client = world.client()
        assert read_all(client) == "1.1.0"
        assert client.manifest("demo", "9.9.9", "development") == evil


def test_build_key_cannot_change_what_a_channel_offers(world: World) -> None:
    def attack(tuf: Path) -> None:
        bundles = delegated(tuf, "bundles")
        path = "bundles/demo/1.1.0/development.json"
        data = manifest("1.1.0", "development", tree="e" * 64).encode()
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields = bundles.targets[path].unrecognized_fields
        bundles.targets[path] = target
        name = tuf.parent / layout.target_name(path, target.hashes["sha256"])
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data)
        republish(world, tuf, bundles=bundles)

    refused(world, attack, TrustError, "is not what channel canary names", online_key_stolen=True)


def replaced(world: World, tuf: Path, evil: Manifest, **custom: str) -> None:
    """What a thief of the build key and the online key can do: another manifest of a version."""
    bundles = delegated(tuf, "bundles")
    path = manifest_path("demo", "1.1.0", "development")
    data = evil.encode()
    target = TargetFile.from_data(path, data, ["sha256"])
    fields = dict(bundles.targets[path].unrecognized_fields)
    target.unrecognized_fields = fields | {"custom": {**fields["custom"], **custom}}
    bundles.targets[path] = target
    name = tuf.parent / layout.target_name(path, target.hashes["sha256"])
    name.parent.mkdir(parents=True, exist_ok=True)
    name.write_bytes(data)
    republish(world, tuf, bundles=bundles)


def channel_digests(tuf: Path) -> dict[str, Any]:
    """What each channel names."""
    channels = Metadata[Targets].from_file(str(newest(tuf, "channels"))).signed
    return {path: one.custom for path, one in channels.targets.items()}


EVIL: dict[str, Callable[[World], Manifest]] = {
    "other tree": lambda world: world.planned("1.1.0", tree="evil").manifest,
    # The identity leaves these out, so only the channel's digest tells.
    "other proofs": lambda world: manifest("1.1.0", "development").model_copy(
        update={"proofs": world.planned("1.1.0", tree="evil").manifest.tree}
    ),
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("channel", ["canary", "stable"])
def test_promotion_does_not_sign_a_replaced_manifest_into_a_channel(
    world: World, kind: str, channel: str
) -> None:
    with world.tampered() as tuf:
        replaced(world, tuf, EVIL[kind](world), request="changed")
        before = channel_digests(tuf)
        with pytest.raises(TrustError, match="is not what channel canary names") as caught:
            world.promote("1.1.0", channel)
        assert caught.value.exit_code == 7
        assert "forge keys rotate bundles" in caught.value.hint
        assert channel_digests(tuf) == before
    world.promote("1.1.0", channel)


@pytest.mark.parametrize("channel", ["canary", "stable"])
def test_release_of_a_replaced_version_is_refused_though_the_custom_identity_was_kept(
    world: World, channel: str
) -> None:
    with world.tampered() as tuf:
        replaced(world, tuf, EVIL["other tree"](world), request="changed")
        before = channel_digests(tuf)
        with pytest.raises(VersionTakenError, match="with other content") as caught:
            world.publish("1.1.0", channel=channel)
        assert "tree.digest" in caught.value.why
        assert channel_digests(tuf) == before
    assert world.publish("1.1.0", channel=channel).parts[0].outcome == "unchanged"


def test_release_of_a_version_with_replaced_proofs_is_refused(world: World) -> None:
    with world.tampered() as tuf:
        replaced(world, tuf, EVIL["other proofs"](world), request="changed")
        before = channel_digests(tuf)
        with pytest.raises(TrustError, match="is not what channel canary names"):
            world.publish("1.1.0", channel="stable")
        assert channel_digests(tuf) == before


def test_release_goes_on_where_only_the_custom_identity_was_changed(world: World) -> None:
    """The manifest is what was published; what is written next to it decides nothing."""
    with world.tampered() as tuf:
        replaced(world, tuf, manifest("1.1.0", "development"), identity="f" * 64)
        assert world.publish("1.1.0").parts[0].outcome == "unchanged"


def test_new_version_can_be_released_after_a_manifest_was_replaced(world: World) -> None:
    with world.tampered() as tuf:
        replaced(world, tuf, EVIL["other tree"](world))
        world.publish("1.2.0")
        assert read_all(world.client()) == "1.2.0"


def test_profile_can_be_added_to_a_version_that_a_channel_names(world: World) -> None:
    world.publish("1.1.0", "development", "other")
    world.promote("1.1.0", "stable")
    named = channel_digests(world.folder / "store/tuf")
    assert named["channels/demo/stable.json"] == named["channels/demo/canary.json"]
    assert set(named["channels/demo/stable.json"]["manifests"]) == {"development", "other"}


def test_promotion_of_a_manifest_of_another_version_is_refused(world: World) -> None:
    with world.tampered() as tuf:
        replaced(world, tuf, manifest("1.0.0", "development"))
        with pytest.raises(TrustError, match="contains another document"):
            world.promote("1.1.0", "stable")


def test_channel_of_an_earlier_version_without_digests_is_read_and_gets_them(world: World) -> None:
    def before(tuf: Path) -> None:
        channels = delegated(tuf, "channels")
        for target in channels.targets.values():
            del target.unrecognized_fields["custom"]["manifests"]
        republish(world, tuf, channels=channels)

    def custom(tuf: Path) -> Any:
        channels = Metadata[Targets].from_file(str(newest(tuf, "channels"))).signed
        return channels.targets["channels/demo/canary.json"].unrecognized_fields["custom"]

    with world.tampered() as tuf:
        before(tuf)
        assert "manifests" not in custom(tuf)
        assert read_all(world.client()) == "1.1.0"
        world.promote("1.1.0", "canary")
        assert set(custom(tuf)["manifests"]) == {"development"}
        assert read_all(world.client()) == "1.1.0"


@pytest.mark.parametrize("digests", [{}, {"development": "f" * 64}, {"development": "x"}, [1]])
def test_channel_that_names_no_or_another_digest_is_refused(world: World, digests: object) -> None:
    def attack(tuf: Path) -> None:
        channels = delegated(tuf, "channels")
        for target in channels.targets.values():
            target.unrecognized_fields["custom"]["manifests"] = digests
        republish(world, tuf, channels=channels)

    refused(world, attack, TrustError, "canary", online_key_stolen=True)


def test_promotion_key_cannot_publish_a_bundle(world: World) -> None:
    def attack(tuf: Path) -> None:
        channels = delegated(tuf, "channels")
        data = manifest("9.9.9", "development").encode()
        path = "bundles/demo/9.9.9/development.json"
        channels.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        republish(world, tuf, channels=channels)

    with world.tampered() as tuf:
        attack(tuf)
        client = world.client()
        client.refresh()
        with pytest.raises(NotInStoreError, match=r"bundles/demo/9.9.9/development.json is not"):
            client.manifest("demo", "9.9.9", "development")
        assert read_all(client) == "1.1.0"


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"tree": {"digest": "../../../etc/passwd", "size": 1, "files": 1}}, "tree.digest"),
        ({"tree": {"digest": "a" * 64, "size": -1, "files": 1}}, "tree.size"),
        ({"profile": "other"}, "contains another document"),
        ({"version": "1.0.0"}, "contains another document"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_manifest_that_is_signed_but_wrong_is_refused(
    world: World, change: dict[str, Any], phrase: str
) -> None:
    def attack(tuf: Path) -> None:
        bundles = delegated(tuf, "bundles")
        path = "bundles/demo/1.1.0/development.json"
        document = json.loads(manifest("1.1.0", "development").encode()) | change
        data = json.dumps(document).encode()
        target = TargetFile.from_data(path, data, ["sha256"])
        bundles.targets[path] = target
        (tuf.parent / layout.target_name(path, target.hashes["sha256"])).write_bytes(data)
        republish(world, tuf, bundles=bundles)

    with world.tampered() as tuf:
        attack(tuf)
        with pytest.raises(TrustError) as caught:
            read_all(world.client())
        assert phrase in str(caught.value)
    assert read_all(world.client("second device")) == "1.1.0"


@pytest.mark.parametrize("path", ["../../escape.json", "bundles/demo/../../x.json"])
def test_manifest_path_with_dots_is_out_of_reach(world: World, path: str) -> None:
    """Names come from the client, are checked, and never hold a dot-dot."""
    client = world.client()
    client.refresh()
    name, version, profile = "demo", "1.1.0", path
    with pytest.raises(ForgeError, match="is not a valid name") as caught:
        client.manifest(name, version, profile)
    assert caught.value.exit_code == 2
    assert read_all(client) == "1.1.0"


# Where trust begins


def test_client_with_another_root_refuses(world: World, tmp_path: Path) -> None:
    keys.init(tmp_path / "strange", passphrase=PASSPHRASE, now=NOW)
    other = (tmp_path / "strange/root.json").read_bytes()
    client = TrustedStore(world.objects, tmp_path / "state", other, now=NOW)
    with pytest.raises(TrustError, match="not signed by enough trusted keys") as caught:
        client.refresh()
    assert caught.value.exit_code == 7
    assert read_all(world.client()) == "1.1.0"


@pytest.mark.parametrize("root", [b"", b"{}", b"not json"])
def test_client_with_a_broken_root_says_so(world: World, tmp_path: Path, root: bytes) -> None:
    client = TrustedStore(world.objects, tmp_path / "state", root, now=NOW)
    with pytest.raises(TrustError, match="root metadata of this device is not valid"):
        client.refresh()


def test_empty_store_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(StoreError, match="Release metadata is missing"):
        world.client().refresh()


def test_state_folder_that_cannot_be_written_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "device").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="Could not write trusted metadata") as caught:
        world.client().refresh()
    assert caught.value.exit_code == 9
    (tmp_path / "device").unlink()
    assert read_all(world.client()) == "1.1.0"


@pytest.mark.parametrize(
    "name", ["timestamp.json", "snapshot.json", "targets.json", "bundles.json"]
)
@pytest.mark.parametrize("data", [b"", b"\x00garbage"])
def test_damaged_state_of_the_device_is_read_again(world: World, name: str, data: bytes) -> None:
    assert read_all(world.client()) == "1.1.0"
    (world.folder / "device/metadata" / name).write_bytes(data)
    assert read_all(world.client()) == "1.1.0"
