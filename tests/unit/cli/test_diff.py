"""`forge diff`: what differs between two published versions, and what a device would download."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forge.cli import main
from forge.release.attest.predicates import Predicate
from forge.release.catalog import Catalog
from forge.store import open_store
from forge.trust.predicates import ACCURACY, ACCURACY_TYPE, PERFORMANCE, PERFORMANCE_TYPE
from tests.support.receipts import receipt
from tests.support.release_world import World
from tests.support.sboms import sbom
from tests.support.smoke_results import measured, result
from tests.support.stores import noise
from tests.support.webserver import web_server

Capture = pytest.CaptureFixture[str]
WEIGHTS = noise(1_000_000, 1)


def predicates(kl_mean: float, ttft_ms: float) -> list[Predicate]:
    level = measured(1, ttft_ms=ttft_ms)
    return [
        Predicate(ACCURACY, ACCURACY_TYPE, receipt(kl_mean=kl_mean).model_dump(mode="json")),
        Predicate(PERFORMANCE, PERFORMANCE_TYPE, result(level).model_dump(mode="json")),
    ]


@pytest.fixture(scope="module")
def world(module_folder: Path) -> World:
    """1.0.0 (stable) and 1.1.0 (canary), which differ in everything that is compared."""
    made = World(module_folder, now=datetime.now(UTC))
    made.release(
        "1.0.0",
        *predicates(0.001, 300),
        sbom=sbom("aiohttp==3.12.1", "numpy==2.1.0"),
        files={"models/m/1/weights.bin": WEIGHTS, "old.txt": b"old"},
    )
    made.rotate("bundles")
    made.release(
        "1.1.0",
        *predicates(0.002, 250),
        sbom=sbom("aiohttp==3.13.0", "torch==2.5.0"),
        files={"models/m/1/weights.bin": WEIGHTS[:-1000] + b"x" * 1000, "new.txt": b"new"},
    )
    made.promote("1.0.0", "stable")
    return made


@pytest.fixture(autouse=True)
def _environment(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FORGE_STORE", str(world.folder / "store"))


def profile(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert main(["diff", *arguments, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["profiles"]
    assert isinstance(found, dict)
    return found


def pairs(changes: list[dict[str, str | None]]) -> dict[str | None, tuple[str | None, str | None]]:
    return {one["name"]: (one["before"], one["after"]) for one in changes}


def test_packages_figures_accuracy_files_and_signers_are_compared(capsys: Capture) -> None:
    found = profile(capsys, "1.0.0", "1.1.0")
    assert not found["same_tree"]
    assert pairs(found["packages"]) == {
        "aiohttp": ("3.12.1 (Apache-2.0)", "3.13.0 (Apache-2.0)"),
        "numpy": ("2.1.0 (Apache-2.0)", None),
        "torch": (None, "2.5.0 (Apache-2.0)"),
    }
    assert pairs(found["figures"])["TTFT p50 at 1"] == ("300 ms", "250 ms")
    assert pairs(found["accuracy"])["kl_mean"] == ("0.001", "0.002")
    files = pairs(found["files"])
    assert set(files) == {
        "models/m/1/engine/engine.bin", "models/m/1/weights.bin", "new.txt", "old.txt"
    }  # fmt: skip
    assert files["new.txt"][0] is None
    assert files["old.txt"][1] is None
    before, after = [
        {name for name, pair in pairs(found["signers"]).items() if pair[side]} for side in (0, 1)
    ]
    assert len(before) == len(after) == 1
    assert before != after


def test_a_version_and_itself_differ_in_nothing(capsys: Capture) -> None:
    found = profile(capsys, "1.0.0", "1.0.0")
    sections = ("fields", "steps", "files", "packages", "figures", "accuracy", "signers")
    assert {name: found[name] for name in sections} == {name: [] for name in sections}
    assert found["same_tree"]


def test_bytes_to_fetch_are_those_that_a_device_is_sent(
    world: World, tmp_path: Path, capsys: Capture
) -> None:
    fetch = profile(capsys, "1.0.0", "1.1.0")["fetch"]
    catalog = Catalog(world.objects)
    old, new = [catalog.manifest("demo", one, "development") for one in ("1.0.0", "1.1.0")]
    world.store.unpack(old.tree.digest, tmp_path / "active")
    with web_server(world.folder / "store", tmp_path / "web") as server:
        device = open_store(server.url, cache=tmp_path / "device-cache")
        device.unpack(new.proofs.digest, tmp_path / "proofs")
        device.unpack(new.tree.digest, tmp_path / "new", seeds=[tmp_path / "active"])
        documents = sum(
            len(world.store.tree(one).encode()) for one in (new.tree.digest, new.proofs.digest)
        )
        assert server.sent() == fetch["bytes"] + documents
    assert fetch["chunks"] > 0
    assert fetch["bytes"] < len(WEIGHTS) / 2


def test_channels_stand_for_the_version_they_point_to(capsys: Capture) -> None:
    assert main(["diff", "stable", "canary", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"]) == ("1.0.0", "1.1.0")


def test_table_and_markdown_show_the_same_rows(capsys: Capture) -> None:
    assert main(["diff", "1.0.0", "1.1.0"]) == 0
    table = capsys.readouterr().out
    assert main(["diff", "1.0.0", "1.1.0", "--markdown"]) == 0
    markdown = capsys.readouterr().out
    for text in ("TTFT p50 at 1", "aiohttp", "kl_mean", "weights.bin", "chunks"):
        assert text in table
        assert text in markdown
    assert "### demo 1.0.0 → 1.1.0 for development" in markdown
    assert "| what | name | first | second |" in markdown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["1.0.0", "9.9.9"], 2, "has no version and no channel '9.9.9'"),
        (["1.0.0", "1.1.0", "--profile", "thor"], 2, "has no profile 'thor'"),
        (["1.0.0", "1.1.0", "--name", "other"], 2, "No bundle 'other'"),
        (["1.0.0", "1.1.0", "--markdown", "--json"], 2, "exclude each other"),
        (["1.0.0", "1.1.0", "--store", "/does/not/exist"], 9, "/does/not/exist"),
    ],
)
def test_wrong_arguments(capsys: Capture, arguments: list[str], code: int, message: str) -> None:
    assert main(["diff", *arguments]) == code
    assert message in capsys.readouterr().err


def test_profiles_that_one_version_lacks_are_named(tmp_path: Path, capsys: Capture) -> None:
    made = World(tmp_path, now=datetime.now(UTC))
    made.publish("1.0.0", "development", "thor")
    made.publish("1.1.0", "development")
    assert main(["diff", "1.0.0", "1.1.0", "--store", str(tmp_path / "store")]) == 0
    shown = capsys.readouterr().out
    assert "Only 1.0.0 has thor." in shown
    assert "not known: a version has no SBOM in the store" in shown
