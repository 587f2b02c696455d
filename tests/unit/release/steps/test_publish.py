"""The command of the publish step, where nothing is to be done and where an input is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forge.release.keys.model import Expiry
from forge.release.manifest import PlannedManifest
from forge.release.repository.unverified_index import request_digest
from forge.release.steps.publish import main
from tests.support.release_world import World, manifest

PART: dict[str, Any] = {
    "profile": {"name": "development"}, "inputs": {"repository": "r", "smoke": "s", "proofs": "p"},
}  # fmt: skip
REQUEST: dict[str, Any] = {"name": "demo", "version": "1.0.0", "channel": "canary", "parts": [PART]}
TREE = manifest("1.0.0", "development").tree.digest
DIGESTS = {"r": TREE, "s": "b" * 64, "p": "c" * 64}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """1.0.0 published by REQUEST, now."""
    made = World(tmp_path, now=datetime.now(UTC), expiry=Expiry())
    request = request_digest("demo", "1.0.0", PART, DIGESTS)
    made.publish_planned(PlannedManifest(made.planned("1.0.0").manifest, request))
    (tmp_path / "digests").write_text(json.dumps(DIGESTS))
    (tmp_path / "chain").write_text("[]")
    return made


def command(world: World, request: dict[str, Any]) -> int:
    (world.folder / "request").write_text(json.dumps(request))
    pairs = [(f"--{name}", str(world.folder / name)) for name in ("keys", "digests", "chain")]
    words = [word for pair in pairs for word in pair]
    store, asked = str(world.folder / "store"), str(world.folder / "request")
    return main(["--store", store, "--request", asked, *words, "--json"])


def test_published_request_is_reported_unchanged_and_asks_for_no_passphrase(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((entry.name, entry.modified) for entry in world.objects.entries(""))
    assert command(world, REQUEST) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {
        "name": "demo",
        "version": "1.0.0",
        "channel": "canary",
        "points_to": "1.0.0",
        "parts": [{"profile": "development", "tree": TREE, "outcome": "unchanged"}],
        "written": False,
    }
    assert output.err == f"demo 1.0.0 development: unchanged, tree {TREE[:12]}\n"
    assert sorted((one.name, one.modified) for one in world.objects.entries("")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "latest"}, "is not valid"),
        ({"parts": []}, "publish request is not valid"),
        ({"version": "1.0.1"}, "publish request is not valid: parts.0.profile"),
    ],
)
def test_request_that_is_not_valid_is_refused_before_anything_is_signed(
    world: World, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    before = sorted(entry.name for entry in world.objects.entries(""))
    assert command(world, REQUEST | change) in {2, 3}
    assert message in capsys.readouterr().err
    assert sorted(entry.name for entry in world.objects.entries("")) == before
