"""One bundle in one file: what is in it, who can install from it, and what damage does."""

from __future__ import annotations

import contextlib
import json
import random
from datetime import timedelta
from pathlib import Path

import pytest

from forge.canonical import digest
from forge.errors import (
    ConfigurationError,
    CorruptedError,
    ForgeError,
    NotInStoreError,
    StoreError,
    TrustError,
    UsageError,
)
from forge.release.archive_check import ArchiveReport, check_archive
from forge.release.bundle_reader import BundlePart
from forge.release.export import Exported, pull_bundle
from forge.release.keys.model import Expiry
from forge.release.manifest import PlannedManifest
from forge.store.backends.archive import ArchiveObjects, write_archive
from forge.store.backends.memory import MemoryObjects
from tests.support.bundle_pull import pull
from tests.support.exported import exported, part, release, root, silent
from tests.support.release_world import World
from tests.support.stores import snapshot

FLIPS = 200


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def export(
    world: World, name: str = "x.forge", *, wanted: BundlePart | None = None, given: bytes = b""
) -> Exported:
    file = world.folder / name
    return exported(world.store, given or root(world), wanted or part(), file, world.now)


def check(world: World, path: Path, given: bytes = b"") -> ArchiveReport:
    return check_archive(path, given or root(world), silent, now=world.now)


def test_a_device_installs_from_the_file_what_it_installs_from_the_store(world: World) -> None:
    made = release(world, "1.0.0")
    done = export(world)
    pull(world, ArchiveObjects(done.file), world.folder / "device", "a")
    pull(world, world.objects, world.folder / "online", "a")
    installed = snapshot(world.folder / "device/a")
    assert installed == snapshot(world.folder / "online/a")
    assert len(installed) == made.tree.files + made.proofs.files
    assert (done.part, done.channels, done.size) == (part(), ("canary",), done.file.stat().st_size)
    assert done.expires == world.now + timedelta(days=7)
    assert done.as_json()["expires"] == "2026-12-01T04:00:00Z"


def test_the_file_is_little_larger_than_what_it_holds(world: World) -> None:
    for version in ("0.8.0", "0.9.0"):
        release(world, version)
    made = release(world, "1.0.0")
    done = export(world)
    assert made.tree.size < done.size <= 1.1 * made.tree.size
    names = [one.name for one in ArchiveObjects(done.file).entries("tuf/targets/bundles/")]
    assert len(names) == 1  # and not the manifests of the versions before


def test_exports_are_equal_byte_for_byte(world: World) -> None:
    release(world, "1.0.0")
    one, other = (export(world, name).file.read_bytes() for name in ("one.forge", "two.forge"))
    assert one == other


def test_the_trees_in_it_do_not_depend_on_how_the_store_holds_them(world: World) -> None:
    release(world, "1.0.0")
    alone = ArchiveObjects(export(world).file)
    (world.folder / "other").mkdir()
    with_others = World(world.folder / "other")
    release(with_others, "0.9.0")  # the same bytes are in a pack of this version
    release(with_others, "1.0.0")
    among = ArchiveObjects(export(with_others).file)
    # The small packs of the proofs differ, because each signature does.
    large = [
        {one.name for one in objects.entries("packs/") if one.size > 100_000}
        for objects in (alone, among)
    ]
    assert large[0] == large[1] != set()


def test_only_channels_that_point_to_the_version_are_in_it(world: World) -> None:
    release(world, "1.0.0")
    world.promote("1.0.0", "stable")
    world.promote("1.0.0", "plant")
    release(world, "1.1.0")
    done = export(world)
    assert done.channels == ("plant", "stable")
    client = world.client()
    client._objects = ArchiveObjects(done.file)
    client.refresh()
    assert client.channel("demo", "plant").version == "1.0.0"
    with pytest.raises(NotInStoreError):
        client.channel("demo", "canary")
    world.promote("1.1.0", "stable")
    world.promote("1.1.0", "plant")
    with pytest.raises(UsageError, match=r"No channel of demo points to 1\.0\.0") as caught:
        export(world)
    assert caught.value.hint == "forge promote 1.0.0 CHANNEL --name demo"


def test_what_is_not_published_is_not_exported(world: World) -> None:
    release(world, "1.0.0")
    for wanted in (part("9.9.9"), part(profile="other"), BundlePart("none", "1.0.0", "x")):
        with pytest.raises(NotInStoreError, match="is not published"):
            export(world, wanted=wanted)
    with pytest.raises(UsageError, match=r"does not end with \.forge") as caught:
        export(world, "bundle.tar")
    assert "-o bundle.forge" in caught.value.hint
    assert not list(world.folder.glob("*.forge"))


def test_a_store_of_another_root_or_that_has_expired_is_not_exported(
    world: World, tmp_path: Path
) -> None:
    release(world, "1.0.0")
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", expiry=Expiry())
    with pytest.raises(TrustError):
        export(world, given=root(other))
    world.later(days=8)
    with pytest.raises(TrustError, match="expired") as caught:
        export(world)
    assert "forge keys refresh" in caught.value.hint


def test_devices_of_every_root_install_from_it(world: World) -> None:
    world.rotate("online")
    release(world, "1.0.0")
    world.rotate("online")
    done = export(world, given=root(world, 2))
    for version in (1, 2, 3):
        client = world.client(f"device-{version}", root=version)
        client._objects = ArchiveObjects(done.file)
        client.refresh()
        assert client.manifest("demo", "1.0.0", "development").version == "1.0.0"
        assert check(world, done.file, root(world, version)).problems == ()


def test_a_damaged_store_is_not_exported(world: World) -> None:
    release(world, "1.0.0")
    pack = max((world.folder / "store/packs").rglob("*"), key=lambda one: one.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(CorruptedError):
        export(world)
    assert not list(world.folder.glob("*.forge"))


def test_pull_unpacks_the_files_and_refuses_a_folder_with_others(world: World) -> None:
    release(world, "1.0.0")
    stores = (
        world.store,
        type(world.store)(ArchiveObjects(export(world).file), cache=world.folder),
    )
    expected = snapshot(world.folder / "made-1.0.0/tree")
    for number, store in enumerate(stores):
        folder = world.folder / f"pulled-{number}"
        pull_bundle(store, root(world), part(), folder, silent, now=world.now)
        assert snapshot(folder) == expected
        with pytest.raises(ConfigurationError, match="not empty"):
            pull_bundle(store, root(world), part(), folder, silent, now=world.now)


@pytest.mark.parametrize("proof", ["provenance.dsse.json", "model.sig"])
def test_a_bundle_whose_proofs_devices_refuse_is_neither_exported_nor_unpacked(
    world: World, proof: str
) -> None:
    good, other = release(world, "1.0.0"), release(world, "1.0.1")
    world.store.unpack(good.proofs.digest, world.folder / "proofs")
    world.store.unpack(other.proofs.digest, world.folder / "others")
    (world.folder / "proofs" / proof).write_bytes((world.folder / "others" / proof).read_bytes())
    mixed = world.store.put_tree(world.folder / "proofs")
    made = good.model_copy(update={"version": "1.1.0", "proofs": mixed})
    world.publish_planned(PlannedManifest(made, digest([made.identity()])))
    with pytest.raises(TrustError):
        export(world, wanted=part("1.1.0"))
    folder = world.folder / "out"
    with pytest.raises(TrustError):
        pull_bundle(world.store, root(world), part("1.1.0"), folder, silent, now=world.now)
    assert not folder.exists()


def test_each_changed_bit_is_named_and_nothing_of_it_is_installed(world: World) -> None:
    release(world, "1.0.0", engine=200_000)
    done = export(world)
    data = done.file.read_bytes()
    pull(world, ArchiveObjects(done.file), world.folder / "sound", "a")
    sound = snapshot(world.folder / "sound/a")
    chosen = random.Random(0).sample(range(len(data)), FLIPS)  # noqa: S311  not for secrets
    refused = 0
    for place in chosen:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        done.file.write_bytes(changed)
        with contextlib.suppress(CorruptedError):
            assert [one.name for one in check(world, done.file).problems], place
        device = world.folder / f"device-{place}"
        said = ""
        try:
            pull(world, ArchiveObjects(done.file), device, "a")
        except (StoreError, TrustError) as error:
            said = str(error)
        if said:
            assert str(done.file) in said or "packs/" in said
            assert not (device / "a/tree").exists()
            refused += 1
        else:  # in bytes that this device does not read
            assert snapshot(device / "a") == sound
    assert refused > FLIPS * 0.9


def test_a_file_that_is_cut_off_is_refused(world: World) -> None:
    release(world, "1.0.0", engine=200_000)
    done = export(world)
    data = done.file.read_bytes()
    for end in (0, 1, 511, 512, 5_000, len(data) // 2, len(data) - 512, len(data) - 1):
        done.file.write_bytes(data[:end])
        with pytest.raises(CorruptedError, match="damaged"):
            check(world, done.file)
        with pytest.raises(ForgeError):
            pull(world, ArchiveObjects(done.file), world.folder / f"device-{end}", "a")
        assert not (world.folder / f"device-{end}" / "a").exists()


def rewritten(path: Path, change: dict[str, bytes | None]) -> Path:
    """The file with other objects and with the right sums of them."""
    objects = ArchiveObjects(path)
    names = [one.name for one in objects.entries("")]
    content = {name: objects.read(name, max_bytes=1 << 30).data for name in names}
    kept = {name: data for name, data in (content | change).items() if data is not None}
    source = MemoryObjects()
    for name, data in kept.items():
        if not name.startswith("tuf/"):
            source.write(name, data)
    signed = {name: data for name, data in kept.items() if name.startswith("tuf/")}
    write_archive(path, source, signed)
    return path


def test_wrong_signatures_are_an_error_of_trust(world: World, tmp_path: Path) -> None:
    release(world, "1.0.0")
    done = export(world)
    (tmp_path / "other").mkdir()
    with pytest.raises(TrustError) as caught:
        check(world, done.file, root(World(tmp_path / "other", expiry=Expiry())))
    assert caught.value.exit_code == 7
    timestamp = "tuf/metadata/timestamp.json"
    document = json.loads(ArchiveObjects(done.file).read(timestamp, max_bytes=1 << 20).data)
    document["signed"]["expires"] = "2036-12-01T04:00:00Z"
    rewritten(done.file, {timestamp: json.dumps(document).encode()})
    with pytest.raises(TrustError, match="not signed"):
        check(world, done.file)


def test_what_nothing_signed_refers_to_is_named(world: World) -> None:
    release(world, "1.0.0")
    done = export(world)
    rewritten(done.file, {"tuf/metadata/9.extra.json": b"{}"})
    assert [one.name for one in check(world, done.file).problems] == ["tuf/metadata/9.extra.json"]


@pytest.mark.parametrize(
    "kind", ["packs/", "files/", "trees/", "tuf/metadata/1.root", "tuf/targets"]
)
def test_a_file_without_an_object_is_refused(world: World, kind: str) -> None:
    release(world, "1.0.0")
    done = export(world)
    lost = next(one.name for one in ArchiveObjects(done.file).entries(kind))
    rewritten(done.file, {lost: None})
    try:
        problems = check(world, done.file).problems
    except (StoreError, TrustError):
        return
    assert problems
