"""Apply an edit to the newest state, and repeat it when another publisher wrote first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from forge.errors import ConflictError, UsageError
from forge.release.repository import update as module
from forge.release.repository.edit import Edit
from forge.release.repository.unverified_index import read_index
from forge.release.repository.update import update
from tests.support.release_world import World, Wrapped

TIMESTAMP = "tuf/metadata/timestamp.json"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.0)
    made = World(tmp_path, memory=True)
    made.publish("1.0.0")
    return made


def nothing(_: Edit) -> None:
    """Change nothing."""


def channel(name: str) -> Callable[[Edit], None]:
    path = f"channels/demo/{name}.json"
    return lambda edit: edit.put("channels", path, name.encode(), {"version": "1.0.0"})


def timestamp_version(world: World) -> int:
    return read_index(world.objects).versions["timestamp"]


def test_edit_without_a_change_writes_nothing(world: World) -> None:
    before = {entry.name for entry in world.objects.entries("")}
    assert not update(world.objects, world.ring(), nothing, now=world.now)
    assert {entry.name for entry in world.objects.entries("")} == before
    assert timestamp_version(world) == 1


def test_always_signs_snapshot_and_timestamp_again(world: World) -> None:
    assert update(world.objects, world.ring(), nothing, now=world.now, always=True)
    versions = read_index(world.objects).versions
    assert versions == {"timestamp": 2, "snapshot": 2, "targets": 1, "bundles": 1, "channels": 1}


def test_change_is_published_with_what_was_there(world: World) -> None:
    assert update(world.objects, world.ring(), channel("beta"), now=world.now)
    assert set(read_index(world.objects).channels) == {
        "channels/demo/canary.json",
        "channels/demo/beta.json",
    }


def test_edit_is_repeated_on_top_of_what_another_publisher_wrote(world: World) -> None:
    inner = world.objects
    calls: list[list[str]] = []

    def other_first(name: str) -> None:
        if name == TIMESTAMP and len(calls) == 1:
            update(inner, world.ring(), channel("other"), now=world.now)

    def change(edit: Edit) -> None:
        calls.append(sorted(edit.targets["channels"]))
        channel("own")(edit)

    assert update(Wrapped(inner, other_first), world.ring(), change, now=world.now)
    canary, other = "channels/demo/canary.json", "channels/demo/other.json"
    assert calls == [[canary], [canary, other]]
    assert {canary, other, "channels/demo/own.json"} == set(read_index(inner).channels)


def test_after_eight_attempts_it_gives_up_and_nothing_is_published(world: World) -> None:
    inner, attempts = world.objects, []

    def other_first(name: str) -> None:
        if name == TIMESTAMP:
            attempts.append(name)
            update(inner, world.ring(), nothing, now=world.now, always=True)

    with pytest.raises(ConflictError, match="Other publishers wrote first 8 times") as caught:
        update(Wrapped(inner, other_first), world.ring(), channel("own"), now=world.now)
    assert len(attempts) == 8
    assert caught.value.exit_code == 9
    assert "channels/demo/own.json" not in read_index(inner).channels


def test_error_of_the_change_leaves_the_store_as_it_was(world: World) -> None:
    def change(edit: Edit) -> None:
        channel("own")(edit)
        raise UsageError("no")

    with pytest.raises(UsageError):
        update(world.objects, world.ring(), change, now=world.now, always=True)
    assert timestamp_version(world) == 1


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (timedelta(days=-30), "the store was signed on 2026-11-24"),
        (timedelta(days=60), "the store expired on 2026-12-01"),
        (timedelta(days=3), ""),
        (timedelta(minutes=-1), ""),
    ],
)
def test_clock_that_does_not_agree_with_the_store_is_a_warning(
    world: World, caplog: pytest.LogCaptureFixture, delta: timedelta, message: str
) -> None:
    with caplog.at_level(logging.WARNING):
        assert update(world.objects, world.ring(), nothing, now=world.now + delta, always=True)
    assert (message in caplog.text) if message else (caplog.text == "")
    assert ("Check this machine's clock" in caplog.text) == bool(message)
