"""Publish a version and move a channel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from forge.bundle import Manifest
from forge.canonical import digest
from forge.errors import ConflictError, ForgeError, NotInStoreError, TrustError, UsageError
from forge.memory import MemoryFormula, ServedMemory
from forge.release.catalog import Catalog
from forge.release.manifest import PlannedManifest
from forge.release.publish import Outcome, Published, VersionTakenError, promote, publish
from forge.store import Store
from forge.store.backends.protocol import Objects
from forge.store.locks import leases
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import World, manifest


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def versions(world: World) -> tuple[list[str], dict[str, str]]:
    catalog = Catalog(world.objects)
    return catalog.versions("demo"), catalog.channels("demo")


def contents(world: World) -> dict[str, str]:
    names = [entry.name for entry in world.objects.entries("tuf/")]
    return {name: world.objects.read(name, max_bytes=10**7).etag for name in names}


def test_first_publication_reports_each_profile_and_the_channel(world: World) -> None:
    done = world.publish("1.0.0", "development", "other")
    trees = [manifest("1.0.0", one).tree.digest for one in ("development", "other")]
    assert done == Published(
        name="demo",
        version="1.0.0",
        channel="canary",
        points_to="1.0.0",
        parts=(
            Outcome("development", trees[0], "published"),
            Outcome("other", trees[1], "published"),
        ),
        written=True,
    )
    assert done.as_json() == {
        "name": "demo",
        "version": "1.0.0",
        "channel": "canary",
        "points_to": "1.0.0",
        "parts": [
            {"profile": "development", "tree": trees[0], "outcome": "published"},
            {"profile": "other", "tree": trees[1], "outcome": "published"},
        ],
        "written": True,
    }


def test_client_with_the_first_root_reads_what_was_published(world: World) -> None:
    world.publish("1.0.0")
    client = world.client()
    client.refresh()
    channel = client.channel("demo", "canary")
    assert (channel.version, list(channel.profiles)) == ("1.0.0", ["development"])
    assert client.manifest("demo", "1.0.0", "development") == manifest("1.0.0", "development")


def test_second_publication_of_the_same_writes_nothing(world: World) -> None:
    world.publish("1.0.0")
    before = contents(world)
    done = world.publish("1.0.0")
    assert (done.parts[0].outcome, done.written) == ("unchanged", False)
    assert contents(world) == before


def test_profile_is_added_to_a_published_version(world: World) -> None:
    world.publish("1.0.0", "development")
    done = world.publish("1.0.0", "development", "other")
    assert [part.outcome for part in done.parts] == ["unchanged", "published"]
    assert Catalog(world.objects).profiles("demo", "1.0.0") == ["development", "other"]
    client = world.client()
    client.refresh()
    assert set(client.channel("demo", "canary").profiles) == {"development", "other"}


def test_published_version_with_other_content_is_refused(world: World) -> None:
    world.publish("1.0.0", "development")
    before = contents(world)
    with pytest.raises(VersionTakenError, match=r"demo 1\.0\.0 for development") as caught:
        world.publish("1.0.0", "other", "development", tree="changed")
    assert caught.value.exit_code == 9
    assert caught.value.why == "differs in tree.digest"
    assert "release this as a new version" in caught.value.hint
    assert contents(world) == before


@pytest.mark.parametrize(
    ("published", "next_", "points_to"),
    [("1.0.0", "1.1.0", "1.1.0"), ("1.1.0", "1.0.0", "1.1.0"), ("1.10.0", "1.9.0", "1.10.0"),
     ("1.0.0", "1.0.0-rc.1", "1.0.0"), ("1.0.0-rc.1", "1.0.0", "1.0.0")],
)  # fmt: skip
def test_channel_moves_to_a_newer_version_only(
    world: World, published: str, next_: str, points_to: str
) -> None:
    world.publish(published)
    done = world.publish(next_)
    assert (done.points_to, done.written) == (points_to, True)
    assert versions(world)[1] == {"canary": points_to}
    assert set(versions(world)[0]) == {published, next_}


def test_channel_names_its_version_and_manifests_in_signed_fields(world: World) -> None:
    world.publish("1.0.0")
    index = Catalog(world.objects).index
    entry = index.channels["channels/demo/canary.json"]
    digests = {name: one.sha256 for name, one in index.published("demo", "1.0.0").items()}
    assert digests
    assert entry.custom == {"version": "1.0.0", "manifests": digests}


def test_proofs_of_new_manifests_are_checked_and_of_published_ones_not(world: World) -> None:
    checked: list[tuple[str, ProofKeys]] = []

    def check(_: object, one: Manifest, keys: ProofKeys) -> None:
        checked.append((one.profile, keys))

    planned = [world.planned("1.0.0", profile) for profile in ("development", "other")]
    publish(world.store, world.ring(), planned[:1], "canary", now=world.now, check=check)
    publish(world.store, world.ring(), planned, "canary", now=world.now, check=check)
    keys = world.ring().proof_keys()
    assert checked == [("development", keys), ("other", keys)]


def test_proofs_that_devices_would_refuse_publish_nothing(world: World) -> None:
    def check(*_: object) -> None:
        raise TrustError("Devices would refuse it")

    with pytest.raises(TrustError, match="Devices would refuse"):
        publish(
            world.store, world.ring(), [world.planned("1.0.0")], "canary",
            now=world.now, check=check,
        )  # fmt: skip
    assert versions(world) == ([], {})


@pytest.mark.parametrize("part", ["tree", "proofs"])
def test_manifest_whose_tree_is_missing_is_refused(world: World, part: str) -> None:
    planned = world.planned("1.0.0")
    gone = getattr(planned.manifest, part).digest
    world.objects.delete(f"trees/{gone}.json")
    with pytest.raises(
        NotInStoreError, match=r"demo 1.0.0 for development is incomplete"
    ) as caught:
        world.publish_planned(planned)
    assert gone[:12] in caught.value.why
    assert versions(world) == ([], {})


def test_promotion_returns_what_the_channel_pointed_to(world: World) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0")
    assert world.promote("1.0.0", "stable") is None
    assert world.promote("1.1.0", "stable") == "1.0.0"
    assert world.promote("1.1.0", "stable") == "1.1.0"
    assert versions(world)[1] == {"canary": "1.1.0", "stable": "1.1.0"}


def test_promotion_to_a_lower_version_needs_force(world: World) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0")
    with pytest.raises(UsageError, match=r"points to 1\.1\.0, 1\.0\.0 is lower") as caught:
        world.promote("1.0.0", "canary")
    assert caught.value.exit_code == 2
    assert caught.value.hint == "forge promote 1.0.0 canary --name demo --force"
    assert world.promote("1.0.0", "canary", force=True) == "1.1.0"
    assert versions(world)[1] == {"canary": "1.0.0"}


@pytest.mark.parametrize("role", ["bundles", "model"])
@pytest.mark.parametrize("revoke", [False, True])
def test_promotion_of_what_devices_would_refuse_is_refused(
    world: World, role: str, *, revoke: bool
) -> None:
    world.release("1.0.0")
    world.rotate(role, revoke=revoke)
    arguments = (world.store, world.ring(), "demo", "1.0.0", "stable")
    if not revoke:  # the old key's proofs are still accepted
        assert promote(*arguments, now=world.now) is None
        return
    with pytest.raises(TrustError, match=r"Devices would refuse demo 1\.0\.0") as caught:
        promote(*arguments, now=world.now)
    assert caught.value.exit_code == 7
    assert versions(world)[1] == {"canary": "1.0.0"}


@pytest.mark.parametrize(
    ("published", "message", "hint"),
    [
        (["1.10.0", "1.9.0"], "demo 2.0.0 is not published", "known: 1.10.0, 1.9.0"),
        ([], "No bundle 'demo' is published", ""),
    ],
)
def test_promotion_to_an_unknown_version_lists_those_that_are_published(
    world: World, published: list[str], message: str, hint: str
) -> None:
    for version in published:
        world.publish(version)
    with pytest.raises(UsageError, match=message) as caught:
        world.promote("2.0.0", "stable")
    assert caught.value.hint.endswith(hint)


@pytest.mark.parametrize(
    ("version", "channel"), [("latest", "stable"), ("1.0.0", "../x"), ("1.0.0", "Stable")]
)
def test_promotion_with_a_name_that_is_not_valid_is_refused(
    world: World, version: str, channel: str
) -> None:
    with pytest.raises(UsageError):
        world.promote(version, channel)
    assert contents(world) == {}


def test_promotion_to_a_version_whose_trees_are_gone_is_refused(world: World) -> None:
    world.publish("1.0.0")
    world.objects.delete(f"trees/{manifest('1.0.0', 'development').tree.digest}.json")
    with pytest.raises(NotInStoreError, match="is incomplete"):
        world.promote("1.0.0", "stable")
    assert versions(world)[1] == {"canary": "1.0.0"}


@dataclass
class Guarded:
    """A store whose locks are what a test says."""

    inner: Store
    lease_error: ConflictError | None = None
    writing_error: ConflictError | None = None

    @property
    def objects(self) -> Objects:
        return self.inner.objects

    def lease(self, name: str, **_: Any) -> AbstractContextManager[object]:
        assert name == "publish-demo"
        if self.lease_error:
            raise self.lease_error
        return nullcontext()

    def writing(self, owner: str) -> AbstractContextManager[object]:
        assert owner == f"publish demo on {leases.owner()}"
        if self.writing_error:
            raise self.writing_error
        return nullcontext()

    def has_tree(self, digest: str) -> bool:
        return self.inner.has_tree(digest)

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        return self.inner.read_file(digest, path, max_bytes=max_bytes)


def published_with(world: World, store: Guarded) -> Callable[[], Published]:
    planned = [world.planned("1.0.0")]
    return lambda: publish(
        store, world.ring(), planned, "canary", now=world.now, check=lambda *_: None
    )


def test_lease_of_another_publisher_does_not_prevent_publishing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = Guarded(world.store, lease_error=ConflictError("held by ci"))
    assert published_with(world, store)().written
    assert "Another publisher is active: held by ci" in caplog.text


def test_garbage_collection_prevents_publishing(world: World) -> None:
    store = Guarded(world.store, writing_error=ConflictError("collecting"))
    with pytest.raises(ForgeError, match="collecting"):
        published_with(world, store)()
    assert versions(world) == ([], {})


def test_fields_of_an_operating_point_that_differ_are_named(world: World) -> None:
    world.publish_planned(world.operating("1.0.0", 80))
    with pytest.raises(VersionTakenError) as caught:
        world.publish_planned(world.operating("1.0.0", 85))
    assert caught.value.why == "differs in operating.thermal"


def test_request_and_identity_are_signed_with_the_manifest(world: World) -> None:
    planned = world.planned("1.0.0")
    world.publish_planned(PlannedManifest(planned.manifest, digest("request")))
    (entry,) = Catalog(world.objects).index.bundles.values()
    assert entry.custom == {"identity": planned.manifest.identity(), "request": digest("request")}


def test_computed_memory_is_signed_with_the_manifest_and_is_no_part_of_it(world: World) -> None:
    planned = world.planned("1.0.0")
    served = ServedMemory(
        formula=MemoryFormula(weights_mib=100, runtime_mib=10, workspace_mib=1),
        max_batch_size=2,
        max_seq_len=512,
    )
    world.publish_planned(replace(planned, memory=served))
    world.publish_planned(world.planned("1.1.0"))
    client = world.client()
    client.refresh()
    found = client.manifest("demo", "1.0.0", "development")
    assert found == planned.manifest  # as devices of earlier versions read it
    assert client.served_memory(found) == served
    assert client.served_memory(client.manifest("demo", "1.1.0", "development")) is None


def fallback(world: World, channel: str) -> str:
    client = world.client()
    client.refresh()
    return client.channel("demo", channel).fallback


def test_a_channel_keeps_where_the_fallback_is_allowed_until_it_is_told_otherwise(
    world: World,
) -> None:
    world.publish("1.0.0")
    assert fallback(world, "canary") == "without-gpu"
    world.promote("1.0.0", "canary", fallback="never")
    assert fallback(world, "canary") == "never"
    world.publish("1.1.0")
    assert (versions(world)[1]["canary"], fallback(world, "canary")) == ("1.1.0", "never")
    world.promote("1.1.0", "canary")
    assert fallback(world, "canary") == "never"
    world.promote("1.1.0", "canary", fallback="without-gpu")
    assert fallback(world, "canary") == "without-gpu"
    world.promote("1.1.0", "stable", fallback="never")
    assert (fallback(world, "stable"), fallback(world, "canary")) == ("never", "without-gpu")
