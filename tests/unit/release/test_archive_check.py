"""`forge bundle verify`: what a sound file and an expired one are; damage is in test_export.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.errors import TrustError
from forge.release.archive_check import ArchiveReport, check_archive
from forge.release.export import Exported
from forge.store.backends.archive import ArchiveObjects
from tests.support.exported import exported, part, release, root, silent
from tests.support.release_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def export(world: World) -> Exported:
    return exported(world.store, root(world), part(), world.folder / "x.forge", world.now)


def check(world: World, path: Path) -> ArchiveReport:
    return check_archive(path, root(world), silent, now=world.now)


def test_a_sound_file_is_reported_with_what_can_be_installed(world: World) -> None:
    release(world, "1.0.0")
    done = export(world)
    found = check(world, done.file)
    sizes = [one.size for one in ArchiveObjects(done.file).entries("")]
    assert found == ArchiveReport(len(sizes), sum(sizes), (), (part(),), ("canary",), done.expires)
    assert json.loads(json.dumps(found.as_json()))["ok"] is True


def test_an_expired_file_is_an_error_of_trust(world: World) -> None:
    release(world, "1.0.0")
    done = export(world)
    world.later(days=7, seconds=1)
    with pytest.raises(TrustError, match="expired"):
        check(world, done.file)
