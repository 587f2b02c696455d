"""A publisher is killed, or is not alone, at every point there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.canonical import digest
from forge.errors import ConflictError, NotInStoreError, TrustError, UsageError
from forge.files import write_durably
from forge.release import publish
from forge.release.catalog import Catalog, live_trees
from forge.release.keys import key_files, keyring
from forge.release.keys.keyring import Keyring
from forge.release.lifecycle.expiry import status
from forge.release.manifest import PlannedManifest
from forge.release.publish import VersionTakenError
from forge.release.repository import update
from forge.release.repository.state import load_state
from forge.store.locks import leases
from forge.trust.proofs import verify_model_signature, verify_provenance
from tests.support.release_world import NOW, World, Wrapped, manifest, publish_at_once


@pytest.fixture(autouse=True)
def _short_courtesy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two publishers in these tests are meant to meet, not to wait for each other."""
    monkeypatch.setattr(publish, "_LEASE_WAIT_S", 0.0)


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


def killed_before_each_write(world: World, act: Callable[[], object]) -> Iterator[int]:
    """Run `act` again and again, killed before its first, second, … write, until one run ends."""
    honest = world.objects
    for last in range(100):
        left = last

        def count(name: str) -> None:
            nonlocal left
            if not name.startswith("tuf/"):
                return
            if left == 0:
                raise Killed
            left -= 1

        world.objects = Wrapped(honest, count)
        try:
            act()
        except Killed:
            world.objects = honest
            yield last
        else:
            world.objects = honest
            return
    pytest.fail("it never ended")


def on_canary(world: World, client: str = "device") -> str:
    trusted = world.client(client)
    trusted.refresh()
    found = trusted.channel("demo", "canary")
    for profile in found.profiles:
        trusted.manifest("demo", found.version, profile)
    trusted.proof_keys()
    return found.version


def test_first_publisher_killed_anywhere_leaves_an_empty_store_that_can_be_published_to(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    deaths = []
    for death in killed_before_each_write(world, lambda: world.publish("1.0.0")):
        assert Catalog(world.objects).names() == []
        deaths.append(death)
    assert (
        len(deaths) >= 7
    )  # root, manifest, channel, key list, targets, roles, snapshot, timestamp
    assert on_canary(world) == "1.0.0"


def test_publisher_killed_anywhere_leaves_the_old_state_valid(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    deaths = 0
    for deaths, _ in enumerate(killed_before_each_write(world, lambda: world.publish("1.1.0")), 1):
        assert on_canary(world) == "1.0.0"
        assert on_canary(world, f"new {deaths}") == "1.0.0"
        assert Catalog(world.objects).versions("demo") == ["1.0.0"]
    assert deaths >= 6  # manifest, channel, bundles, channels, snapshot, timestamp
    assert on_canary(world) == "1.1.0"
    assert Catalog(world.objects).versions("demo") == ["1.1.0", "1.0.0"]


def test_promotion_killed_anywhere_leaves_the_channel_where_it_was(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0", channel="other")
    world.promote("1.0.0", "canary")
    world.publish("1.1.0", channel="other")
    for _ in killed_before_each_write(world, lambda: world.promote("1.1.0", "canary")):
        assert on_canary(world) == "1.0.0"
    assert on_canary(world) == "1.1.0"


@pytest.mark.parametrize("role", ["online", "targets", "bundles", "channels", "model"])
def test_rotation_killed_anywhere_is_finished_by_refresh(tmp_path: Path, role: str) -> None:
    """At each point clients go on, refresh ends what was begun, and the next rotation works."""
    world = World(tmp_path)
    world.publish("1.0.0")
    deaths = 0
    for deaths, _ in enumerate(killed_before_each_write(world, lambda: world.rotate(role)), 1):
        assert on_canary(world) == "1.0.0"
        assert on_canary(world, f"new {deaths}") == "1.0.0"
        world.refresh()
        assert on_canary(world) == "1.0.0"
        assert on_canary(world, f"newer {deaths}") == "1.0.0"
    assert deaths >= 3
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"


def killed_before_each_key_write(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> Iterator[int]:
    """Run `act` again and again, killed before its first, second, … write to the keys folder."""
    for last in range(100):
        left = last

        def write(path: Path, data: bytes, mode: int = 0o644) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            write_durably(path, data, mode)

        with monkeypatch.context() as patch:
            for module in (keyring, key_files):
                patch.setattr(module, "write_durably", write)
            try:
                act()
            except Killed:
                killed = True
            else:
                killed = False
        if not killed:
            return
        yield last
    pytest.fail("it never ended")


def installs(world: World, made: Manifest, client: str) -> None:
    """What a device does: read the manifest, unpack, and believe both proofs."""
    trusted = world.client(client)
    trusted.refresh()
    assert trusted.manifest("demo", made.version, "development") == made
    place = world.folder / client
    world.store.unpack(made.tree.digest, place / "tree")
    world.store.unpack(made.proofs.digest, place / "proofs")
    believed = trusted.proof_keys()
    verify_provenance(place / "proofs", made, believed)
    verify_model_signature(place / "proofs", place / "tree", believed)


@pytest.mark.parametrize("revoke", [False, True], ids=["rotate", "revoke"])
@pytest.mark.parametrize("role", ["online", "targets", "bundles", "channels", "model"])
def test_rotation_killed_anywhere_in_the_keys_folder_leaves_releases_installable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, *, revoke: bool
) -> None:
    """Proofs are signed with keys that devices are told to believe, whatever lies in the folder."""
    world = World(tmp_path)
    installs(world, world.release("1.0.0"), "first")
    deaths = 0
    for deaths, _ in enumerate(
        killed_before_each_key_write(monkeypatch, lambda: world.rotate(role, revoke=revoke)), 1
    ):
        assert on_canary(world) == f"1.{deaths - 1}.0"
        if role in {"online", "targets"}:
            world.refresh()  # publishing says so where it is needed; see below
        installs(world, world.release(f"1.{deaths}.0"), f"device {deaths}")
        assert on_canary(world) == f"1.{deaths}.0"
    assert deaths >= 3
    installs(world, world.release("2.0.0"), "last")


def test_machine_that_missed_a_revocation_publishes_nothing_devices_would_refuse(
    tmp_path: Path,
) -> None:
    world, other = World(tmp_path), World(tmp_path / "other")
    world.release("1.0.0")
    other.objects = world.objects
    _share_keys(other, world)
    world.rotate("model", revoke=True)
    before = {entry.name for entry in world.objects.entries("tuf/")}
    with pytest.raises(TrustError, match=r"Devices would refuse demo 1.1.0") as caught:
        other.release("1.1.0")
    assert caught.value.exit_code == 7
    assert "it is not signed by a trusted model key" in caught.value.why
    assert "forge keys refresh" in caught.value.hint
    assert {entry.name for entry in world.objects.entries("tuf/")} == before
    other.refresh()  # takes over the newest list of keys
    with pytest.raises(UsageError, match="no model key that devices trust"):
        other.release("1.1.0")
    assert on_canary(world) == "1.0.0"
    for name in ("keys.json", "model-2.pem"):
        shutil.copy2(world.keys / name, other.keys / name)  # with its mode
    installs(world, other.release("1.1.0"), "new")
    assert on_canary(world) == "1.1.0"


def test_proofs_of_another_bundle_are_refused_before_anything_is_signed(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0")
    forged = manifest("1.1.0", "development").model_copy(update={"proofs": made.proofs})
    world.planned("1.1.0")
    planned = [PlannedManifest(forged, digest([forged.identity()]))]
    before = {entry.name for entry in world.objects.entries("tuf/")}
    with pytest.raises(TrustError, match=r"Devices would refuse demo 1.1.0") as caught:
        publish.publish(world.store, world.ring(), planned, "canary", now=world.now)
    assert caught.value.exit_code == 7
    assert "it is for tree" in caught.value.why
    assert {entry.name for entry in world.objects.entries("tuf/")} == before
    assert on_canary(world) == "1.0.0"


@pytest.mark.parametrize("role", ["online", "targets"])
def test_publishing_after_a_killed_rotation_finishes_it(tmp_path: Path, role: str) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    for number, _ in enumerate(killed_before_each_write(world, lambda: world.rotate(role)), 1):
        world.publish(f"1.{number}.0")
        assert on_canary(world) == f"1.{number}.0"
        state = load_state(world.objects, world.ring())
        assert not state.new_roots
        assert not state.stale


def test_store_with_roots_without_end_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    for version in range(2, 260):
        world.objects.write(f"tuf/metadata/{version}.root.json", b"{}")
    for use in (lambda: world.publish("1.1.0"), lambda: status(world.objects, world.ring(), NOW)):
        with pytest.raises(TrustError, match="more than 256 roots after root 1") as caught:
            use()
        assert caught.value.exit_code == 7
    for version in range(2, 260):
        world.objects.delete(f"tuf/metadata/{version}.root.json")
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"


def test_left_over_numbers_of_dead_publishers_are_stepped_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    for role in ("bundles", "channels", "snapshot"):
        for version in (2, 3, 4):
            world.objects.write_new(f"tuf/metadata/{version}.{role}.json", b"left over")
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"
    assert world.objects.read("tuf/metadata/2.bundles.json", max_bytes=99).data == b"left over"
    assert Catalog(world.objects).index.versions["snapshot"] == 5


# Two publishers


def test_two_publishers_at_once_both_end_up_published(tmp_path: Path) -> None:
    """The second publishes all of its release between the first one's reading and writing."""
    world, other = World(tmp_path), World(tmp_path / "other")
    world.publish("1.0.0")
    other.objects, honest = world.objects, world.objects
    _share_keys(other, world)
    met: list[str] = []

    def meet(name: str) -> None:
        if name.endswith("timestamp.json") and not met:
            met.append(name)
            other.publish("1.1.0", channel="beta")

    world.objects = Wrapped(honest, meet)
    world.publish("1.2.0")
    world.objects = honest
    assert met
    catalog = Catalog(honest)
    assert catalog.versions("demo") == ["1.2.0", "1.1.0", "1.0.0"]
    assert catalog.channels("demo") == {"beta": "1.1.0", "canary": "1.2.0"}
    assert on_canary(world) == "1.2.0"


def test_many_publishers_at_once_all_end_up_published(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    publish_at_once(world, 4)
    assert len(Catalog(world.objects).versions("demo")) == 5
    assert on_canary(world) == "1.0.0"


def test_publisher_who_is_always_late_is_told_to_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("forge.release.repository.update.time.sleep", pauses.append)
    world = World(tmp_path)
    world.publish("1.0.0")
    honest = world.objects

    def meet(name: str) -> None:
        if name.endswith("timestamp.json"):
            stored = honest.read(name, max_bytes=99999)
            honest.write(name, stored.data + b"\n")  # the same metadata with another ETag

    world.objects = Wrapped(honest, meet)
    with pytest.raises(ConflictError, match="wrote first 8 times") as caught:
        world.publish("1.1.0")
    assert caught.value.exit_code == 9
    assert "run it again" in caught.value.hint
    assert len(pauses) == 7  # none after the last
    world.objects = honest
    assert on_canary(world) == "1.0.0"
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"


def test_same_release_published_by_two_at_once_is_published_once(tmp_path: Path) -> None:
    world, other = World(tmp_path), World(tmp_path / "other")
    world.publish("1.0.0")
    other.objects, honest = world.objects, world.objects
    _share_keys(other, world)

    def meet(name: str) -> None:
        if name.endswith("timestamp.json") and Catalog(honest).versions("demo") == ["1.0.0"]:
            other.publish("1.1.0")

    world.objects = Wrapped(honest, meet)
    done = world.publish("1.1.0")
    assert not done.written
    assert [part.outcome for part in done.parts] == ["unchanged"]
    world.objects = honest
    assert on_canary(world) == "1.1.0"


# What a publisher refuses


def test_version_published_with_other_content_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0", "development", "other")
    with pytest.raises(VersionTakenError, match="already published with other content") as caught:
        world.publish("1.0.0", "development", tree="changed")
    assert caught.value.exit_code == 9
    assert "1.0.0 for development" in caught.value.what
    assert "tree.digest" in caught.value.why
    assert "new version" in caught.value.hint
    client = world.client()
    client.refresh()
    assert client.manifest("demo", "1.0.0", "development") == manifest("1.0.0", "development")


def test_version_published_with_other_temperatures_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    with pytest.raises(VersionTakenError) as caught:
        world.publish_planned(world.operating("1.0.0", 80))
    assert caught.value.why == "differs in operating"
    world.publish_planned(world.operating("1.1.0", 80))
    with pytest.raises(VersionTakenError) as caught:
        world.publish_planned(world.operating("1.1.0", 90))
    assert caught.value.why == "differs in operating.thermal"


def test_profile_added_to_a_version_later_reaches_the_channel(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0", "development")
    done = world.publish("1.0.0", "other")
    assert done.written
    client = world.client()
    client.refresh()
    assert sorted(client.channel("demo", "canary").profiles) == ["development", "other"]


def test_release_that_is_published_already_signs_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    before = {entry.name for entry in world.objects.entries("tuf/")}
    assert not world.publish("1.0.0").written
    assert {entry.name for entry in world.objects.entries("tuf/")} == before


def test_older_release_does_not_pull_the_channel_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.1.0")
    done = world.publish("1.0.1")
    assert (done.version, done.points_to) == ("1.0.1", "1.1.0")
    assert on_canary(world) == "1.1.0"


def test_promotion_to_an_unknown_version_lists_the_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    world.publish("1.1.0")
    with pytest.raises(UsageError, match=r"demo 9.0.0 is not published") as caught:
        world.promote("9.0.0", "canary")
    assert "1.1.0, 1.0.0" in caught.value.hint
    assert on_canary(world) == "1.1.0"


def test_promotion_backwards_needs_force(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    world.publish("1.1.0")
    with pytest.raises(UsageError, match=r"points to 1.1.0, 1.0.0 is lower") as caught:
        world.promote("1.0.0", "canary")
    assert "--force" in caught.value.hint
    assert on_canary(world) == "1.1.0"
    assert world.promote("1.0.0", "canary", force=True) == "1.1.0"
    assert on_canary(world) == "1.0.0"


def test_publisher_signs_nothing_on_top_of_forged_metadata(tmp_path: Path) -> None:
    """Else a thief of the store alone could have his own bundle signed."""
    world = World(tmp_path)
    world.publish("1.0.0")
    with world.tampered() as tuf:
        path = tuf / "metadata/1.bundles.json"
        path.write_bytes(path.read_bytes().replace(b"1.0.0/development", b"1.0.0/evil-device"))
        with pytest.raises(TrustError, match="inconsistent or altered"):
            world.publish("1.1.0")
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"


def test_publisher_with_other_keys_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    other = World(tmp_path / "other", expiry=world.ring().file.expiry_days)
    other.objects = world.objects
    with pytest.raises(TrustError, match="was signed with other keys") as caught:
        other.publish("1.1.0")
    assert caught.value.exit_code == 7
    assert on_canary(world) == "1.0.0"


def test_expired_root_is_not_published_under(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    world.later(days=366)
    with pytest.raises(TrustError, match="root metadata expired") as caught:
        world.publish("1.1.0")
    assert "forge keys refresh" in caught.value.hint
    world.refresh()
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"


def test_wrong_passphrase_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    ring = Keyring(world.keys, lambda: "wrong")
    with pytest.raises(UsageError, match="Cannot open the key") as caught:
        update.update(world.objects, ring, lambda _: None, now=world.now, always=True)
    assert "FORGE_PASSPHRASE_FILE" in caught.value.hint
    assert on_canary(world) == "1.0.0"


def test_promoter_needs_neither_build_key_nor_offline_keys(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    world.later(days=60)  # the bundles role is past half its life: not the promoter's business
    for name in ("root-1", "root-2", "root-3", "targets", "bundles", "model"):
        (world.keys / f"{name}.pem").unlink()
    world.promote("1.0.0", "stable")
    client = world.client()
    client.refresh()
    assert client.channel("demo", "stable").version == "1.0.0"


def test_garbage_collection_is_told_all_that_channels_and_recent_versions_need(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.10.0"):
        world.publish(version)
    world.promote("1.0.0", "stable")
    trees = {
        version: {manifest(version, "development").tree.digest} for version in ("1.0.0", "1.10.0")
    }
    live = set(live_trees(world.store, 1))
    assert len(live) == 4
    assert live > trees["1.0.0"] | trees["1.10.0"]
    assert len(set(live_trees(world.store, 9))) == 8


def test_promotion_to_a_version_whose_trees_are_gone_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    world.publish("1.1.0")
    gone = manifest("1.0.0", "development").tree.digest
    world.objects.delete(f"trees/{gone}.json")
    with pytest.raises(NotInStoreError, match=r"demo 1.0.0 for development is incomplete"):
        world.promote("1.0.0", "stable")
    assert Catalog(world.objects).channels("demo") == {"canary": "1.1.0"}


def test_publishing_while_garbage_is_collected_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    with (
        leases.hold(world.objects, "gc", owner="collector"),
        pytest.raises(ConflictError, match="Garbage collection is running"),
    ):
        world.publish("1.1.0")
    assert on_canary(world) == "1.0.0"
    world.publish("1.1.0")
    assert on_canary(world) == "1.1.0"


def _share_keys(one: World, other: World) -> None:
    import shutil

    shutil.rmtree(one.keys)
    shutil.copytree(other.keys, one.keys)
