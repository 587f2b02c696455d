"""What is published, and what garbage collection keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forge.bundle import ChainLink
from forge.canonical import digest
from forge.errors import CorruptedError, NotInStoreError, TrustError
from forge.release.attest.predicates import Predicate
from forge.release.catalog import Catalog, live_actions, live_trees, read_manifest
from forge.release.manifest import PlannedManifest
from forge.smoke.result import Baseline
from forge.store.backends.protocol import Stored
from forge.trust.predicates import PERFORMANCE, PERFORMANCE_TYPE
from tests.support.release_world import World, Wrapped, manifest
from tests.support.smoke_results import measured, result


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


class CountedReads(Wrapped):
    """A store that counts what is read."""

    def __init__(self, world: World) -> None:
        super().__init__(world.objects, lambda _: None)
        self.names: list[str] = []

    def read(self, name: str, *, max_bytes: int) -> Stored:
        self.names.append(name)
        return super().read(name, max_bytes=max_bytes)


def test_empty_store_has_no_bundles(world: World) -> None:
    catalog = Catalog(world.objects)
    assert (catalog.names(), catalog.versions("demo"), catalog.channels("demo")) == ([], [], {})
    assert catalog.baseline("demo", "development", "1.0.0") is None
    assert list(live_trees(world.store, 9)) == []


def test_versions_are_newest_first_by_the_order_of_versions(world: World) -> None:
    for version in ("1.2.0", "1.10.0", "1.10.0-rc.1"):
        world.publish(version)
    assert Catalog(world.objects).versions("demo") == ["1.10.0", "1.10.0-rc.1", "1.2.0"]
    assert Catalog(world.objects).versions("dem") == []


def test_profiles_and_channels_are_those_of_one_bundle(world: World) -> None:
    world.publish("1.0.0", "other", "development", channel="canary")
    world.promote("1.0.0", "stable")
    world.publish("1.1.0", "development")
    catalog = Catalog(world.objects)
    assert catalog.names() == ["demo"]
    assert catalog.profiles("demo", "1.0.0") == ["development", "other"]
    assert catalog.profiles("demo", "1.1.0") == ["development"]
    assert catalog.profiles("demo", "1.1") == []
    assert catalog.channels("demo") == {"canary": "1.1.0", "stable": "1.0.0"}
    assert catalog.channels("dem") == {}


def test_metadata_is_read_once_and_not_before_it_is_needed(world: World) -> None:
    world.publish("1.0.0")
    objects = CountedReads(world)
    catalog = Catalog(objects)
    assert objects.names == []
    for _ in range(3):
        catalog.names()
        catalog.channels("demo")
    assert len(objects.names) == len(set(objects.names)) == 5  # timestamp, snapshot, three roles


def test_manifest_is_the_one_that_was_published(world: World) -> None:
    world.publish("1.0.0")
    found = Catalog(world.objects).manifest("demo", "1.0.0", "development")
    assert found == manifest("1.0.0", "development")


@pytest.mark.parametrize(
    ("name", "version", "profile"),
    [("demo", "1.0.0", "other"), ("demo", "1.0.1", "development"), ("x", "1.0.0", "development")],
)
def test_manifest_that_is_not_published_is_named(
    world: World, name: str, version: str, profile: str
) -> None:
    world.publish("1.0.0")
    message = f"{name} {version} for {profile} is not published"
    with pytest.raises(NotInStoreError, match=message) as caught:
        Catalog(world.objects).manifest(name, version, profile)
    assert caught.value.exit_code == 9
    assert "forge bundle list" in caught.value.hint


@pytest.mark.parametrize("data", [b"{}", b""])
def test_damaged_manifest_is_named(world: World, data: bytes) -> None:
    world.publish("1.0.0")
    for entry in list(world.objects.entries("tuf/targets/bundles/")):
        world.objects.write(entry.name, data)
    with pytest.raises(CorruptedError, match="is damaged") as caught:
        Catalog(world.objects).manifest("demo", "1.0.0", "development")
    assert caught.value.hint == "restore it from a copy of the store"


def test_manifest_is_read_by_the_path_and_digest_of_its_entry(world: World) -> None:
    world.publish("1.0.0")
    path, entry = next(iter(Catalog(world.objects).index.bundles.items()))
    assert read_manifest(world.objects, path, entry).version == "1.0.0"
    with pytest.raises(NotInStoreError):
        read_manifest(world.objects, "bundles/demo/1.0.0/other.json", entry)


def test_baseline_is_the_newest_lower_version_that_has_the_profile(world: World) -> None:
    world.publish("1.0.0", "development", "other")
    world.publish("1.1.0", "other")
    world.publish("2.0.0", "development")
    catalog = Catalog(world.objects)
    made = manifest("1.0.0", "development")
    expected = Baseline(version="1.0.0", tree=made.tree.digest, summary=made.smoke)
    assert catalog.baseline("demo", "development", "1.1.0") == expected
    assert catalog.baseline("demo", "development", "2.0.0-rc.1") == expected
    assert catalog.baseline("demo", "development", "1.0.0") is None
    assert catalog.baseline("demo", "nowhere", "9.0.0") is None


def performance(content: dict[str, Any]) -> Predicate:
    return Predicate(PERFORMANCE, PERFORMANCE_TYPE, content)


def test_baseline_holds_the_runs_that_the_bundle_s_predicate_has(tmp_path: Path) -> None:
    world, found = World(tmp_path), result()
    made = world.release("1.0.0", performance(found.model_dump(mode="json")))
    catalog = Catalog(world.objects)
    last = catalog.baseline("demo", "development", "2.0.0")
    assert last == Baseline(
        version="1.0.0", tree=made.tree.digest, summary=made.smoke, level=found.lowest
    )
    assert catalog.performance(made) == found


def test_bundle_of_a_version_without_the_predicate_is_a_baseline_without_runs(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0")
    last = Catalog(world.objects).baseline("demo", "development", "2.0.0")
    assert last == Baseline(version="1.0.0", tree=made.tree.digest, summary=made.smoke)


def test_runs_at_another_concurrency_than_the_summary_s_are_no_baseline(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = result(measured(4))
    world.release("1.0.0", performance(other.model_dump(mode="json")))
    last = Catalog(world.objects).baseline("demo", "development", "2.0.0")
    assert last is not None
    assert last.level is None


def test_predicate_that_is_no_result_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("1.0.0", performance({"schema_version": 3}))
    with pytest.raises(CorruptedError, match=r"performance\.dsse\.json of demo 1\.0\.0"):
        Catalog(world.objects).baseline("demo", "development", "2.0.0")


@pytest.mark.parametrize("keep", [0, 1, 2, 9])
def test_newest_versions_and_those_on_a_channel_are_live(world: World, keep: int) -> None:
    versions = ["1.0.0", "1.1.0", "1.2.0", "1.10.0"]
    for version in versions:
        world.publish(version)
    world.promote("1.0.0", "stable")
    kept = {"1.0.0", "1.10.0", *versions[len(versions) - keep if keep < 4 else 0 :]}
    expected = set()
    for version in kept:
        one = manifest(version, "development")
        expected |= {one.tree.digest, one.proofs.digest}
    assert set(live_trees(world.store, keep)) == expected


def test_results_that_a_live_version_was_built_from_are_live(world: World) -> None:
    made = world.planned("1.0.0").manifest
    links = tuple(ChainLink(step=one, key=one[0] * 64, outputs={}) for one in ("a", "b"))
    chained = made.model_copy(update={"chain": links})
    world.publish_planned(PlannedManifest(chained, digest([chained.identity()])))
    assert list(live_actions(world.store, 1)) == ["a" * 64, "b" * 64]


def test_nothing_is_read_before_the_first_digest_is_taken(world: World) -> None:
    found = live_trees(world.store, 1)
    world.publish("1.0.0")
    assert len(list(found)) == 2


@pytest.mark.parametrize("live", [live_trees, live_actions])
def test_lost_timestamp_is_an_error_and_not_an_empty_store(world: World, live: object) -> None:
    world.publish("1.0.0")
    world.objects.delete("tuf/metadata/timestamp.json")
    assert callable(live)
    with pytest.raises(TrustError, match="has release metadata and no timestamp") as caught:
        list(live(world.store, 1))
    assert caught.value.exit_code == 7
