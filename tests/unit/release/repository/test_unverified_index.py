"""Plain reading of what is published, and when there is nothing to do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from forge.errors import TrustError
from forge.release.repository.unverified_index import already_published, read_index, request_digest
from tests.support.release_world import NOW, World

PART: dict[str, Any] = {
    "profile": {"name": "development", "platform": "linux/amd64"},
    "inputs": {"repository": "r", "smoke": "s", "proofs": "p"},
}
REQUEST: dict[str, Any] = {"name": "demo", "version": "1.0.0", "channel": "canary", "parts": [PART]}
DIGESTS = {"r": "a" * 64, "s": "b" * 64, "p": "c" * 64}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """1.0.0 published by REQUEST."""
    from forge.release.manifest import PlannedManifest
    from forge.release.publish import publish

    made = World(tmp_path, memory=True)
    planned = made.planned("1.0.0")
    request = request_digest("demo", "1.0.0", PART, DIGESTS)
    answer = [PlannedManifest(planned.manifest, request)]
    publish(made.store, made.ring(), answer, "canary", now=NOW, check=lambda *_: None)
    return made


def nothing_to_do(
    world: World, *, days: float = 0, digests: dict[str, str] | None = None, **request: Any
) -> bool:
    index = read_index(world.objects)
    now = NOW + timedelta(days=days)
    return already_published(index, REQUEST | request, digests or DIGESTS, world.keys, now)


def test_same_request_is_published_already(world: World) -> None:
    assert nothing_to_do(world)


def test_new_proofs_and_measurements_of_the_same_repository_change_nothing(world: World) -> None:
    assert nothing_to_do(world, digests=DIGESTS | {"s": "d" * 64, "p": "e" * 64})


@pytest.mark.parametrize(
    "request_",
    [
        {"version": "1.0.1"},
        {"name": "other"},
        {"channel": "stable"},
        {"parts": [PART | {"profile": {"name": "development", "platform": "linux/arm64"}}]},
        {"parts": [PART, PART | {"profile": {"name": "other"}}]},
        {"parts": "not parts"},
        {"parts": []},
        {"parts": [{}]},
    ],
)
def test_other_request_is_work(world: World, request_: dict[str, Any]) -> None:
    assert not nothing_to_do(world, **request_)


def test_other_repository_is_work(world: World) -> None:
    assert not nothing_to_do(world, digests=DIGESTS | {"r": "f" * 64})


@pytest.mark.parametrize(("days", "fresh"), [(0, True), (3.4, True), (3.6, False), (30, False)])
def test_timestamp_past_half_its_life_is_work(world: World, days: float, fresh: bool) -> None:  # noqa: FBT001
    assert nothing_to_do(world, days=days) is fresh


def test_keys_that_are_gone_are_work_for_the_thorough_path(world: World) -> None:
    (world.keys / "keys.json").unlink()
    assert not nothing_to_do(world)


def test_empty_store_is_work(tmp_path: Path) -> None:
    assert not nothing_to_do(World(tmp_path))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"signed": 1}', b'{"signed": {"meta": {}}}', b"\xff"]
)
def test_metadata_that_is_none_is_named(world: World, data: bytes) -> None:
    world.objects.write("tuf/metadata/timestamp.json", data)
    with pytest.raises(TrustError, match="is not valid"):
        read_index(world.objects)


def test_metadata_the_snapshot_does_not_name_is_refused(world: World) -> None:
    world.objects.write("tuf/metadata/1.bundles.json", b'{"signed": {"targets": {}}}')
    with pytest.raises(TrustError, match="does not match the snapshot"):
        read_index(world.objects)
