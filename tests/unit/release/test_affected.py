"""Which bundles have a component, and what the publisher signed about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.release.affected import AffectedResult, find_affected
from forge.release.component_query import parse_query
from forge.release.repository.verified_index import first_root, read_verified_index
from forge.release.vex import VexStatement, sign_statement
from forge.store.backends.memory import MemoryObjects
from tests.support.memory_stores import Place
from tests.support.release_world import World
from tests.support.sboms import sbom


def ask(world: World, query: str) -> AffectedResult:
    index = read_verified_index(world.objects, first_root(world.objects), world.now)
    return find_affected(world.objects, index, parse_query(query), world.folder / "index")


def test_every_profile_of_every_version_is_looked_at_newest_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    for version, profile in (("1.9.0", "a"), ("1.10.0", "b"), ("1.10.0-rc.1", "a")):
        world.release(version, sbom=sbom("numpy==2.1.0"), profile=profile)
    world.release("2.0.0", sbom=sbom("torch==2.5.0"))
    found = ask(world, "numpy")
    assert [(one.version, one.profile) for one in found.found] == [
        ("1.10.0", "b"), ("1.10.0-rc.1", "a"), ("1.9.0", "a")
    ]  # fmt: skip
    assert found.looked_at == 4
    assert found.unread == ()


def test_a_version_that_cannot_be_compared_is_listed_as_not_certain(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("1.0.0", sbom=sbom("numpy==main"))
    (row,) = ask(world, "pkg:pypi/numpy<3").found
    assert not row.certain


def test_an_sbom_is_read_once(tmp_path: Path) -> None:
    world = World(tmp_path, memory=True)
    world.objects = place = Place(clock=lambda: 0.0)
    assert isinstance(place, MemoryObjects)
    world.release("1.0.0", sbom=sbom("numpy==2.1.0"))
    first = ask(world, "numpy")
    place.asked.clear()
    assert ask(world, "numpy") == first
    assert {name.partition("/")[0] for _, name in place.asked} <= {"tuf", "vex"}


def test_a_channel_keeps_what_points_to_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    for version in ("1.0.0", "1.1.0"):
        world.release(version, sbom=sbom("numpy==2.1.0"))
    world.promote("1.0.0", "stable")
    found = ask(world, "numpy")
    assert [one.version for one in found.on_channel("stable").found] == ["1.0.0"]
    assert [one.version for one in found.on_channel("canary").found] == ["1.1.0"]
    assert found.on_channel("none").found == ()


@pytest.mark.parametrize("query", ["numpy", "pkg:pypi/numpy@2.1.0", f"{12:064x}"])
def test_a_statement_is_about_the_bundle_and_the_component(tmp_path: Path, query: str) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0", sbom=sbom("numpy==2.1.0", "torch==2.5.0"))
    world.release("1.1.0", sbom=sbom("numpy==2.1.0"))
    statement = VexStatement("CVE-2026-1", "fixed", ("pkg:pypi/numpy@2.1.0",))
    sign_statement(world.objects, world.ring(), made, statement, world.now)
    found = {
        (one.version, one.component.name): [said.vulnerability for said in one.statements]
        for one in ask(world, query).found
    }
    assert found[("1.0.0", "numpy")] == ["CVE-2026-1"]
    assert found[("1.1.0", "numpy")] == []
    assert found.get(("1.0.0", "torch"), []) == []
