"""`forge affected`: which published bundles have a component."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forge.cli import main
from forge.release.catalog import Catalog
from forge.release.lifecycle import keys as lifecycle
from tests.support.release_world import PASSPHRASE, World
from tests.support.sboms import sbom

Capture = pytest.CaptureFixture[str]
WEIGHTS = "ab" * 32


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """1.0.0 (stable) has aiohttp 3.12.1, 2.0.0 (canary) has 3.13.0 and the engine's weights."""
    monkeypatch.setenv("FORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FORGE_STORE", str(tmp_path / "store"))
    made = World(tmp_path, now=datetime.now(UTC))
    made.release("1.0.0", sbom=sbom("aiohttp==3.12.1", "numpy==2.1.0"))
    made.release(
        "2.0.0", sbom=sbom("aiohttp==3.13.0", files=(("models/m/1/engine/model.bin", WEIGHTS),))
    )
    made.promote("1.0.0", "stable")
    return made


def ask(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    assert main(["affected", *arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["found"]
    return found


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("pkg:pypi/aiohttp<3.13", ["1.0.0"]),
        ("pkg:pypi/aiohttp@3.13.0", ["2.0.0"]),
        ("pkg:pypi/aiohttp", ["2.0.0", "1.0.0"]),
        ("pkg:pypi/numpy>=2,<2.2", ["1.0.0"]),
        ("pkg:npm/aiohttp", []),
        ("AIOHTTP<3.13", ["1.0.0"]),
        ("model.bin", ["2.0.0"]),
        (f"sha256:{WEIGHTS}", ["2.0.0"]),
        (WEIGHTS[:12], ["2.0.0"]),
        ("pkg:pypi/aiohttp>4", []),
    ],
)
def test_bundles_are_found_by_purl_name_and_digest(
    capsys: Capture, query: str, versions: list[str]
) -> None:
    assert [one["version"] for one in ask(capsys, query)] == versions


@pytest.mark.usefixtures("world")
def test_a_row_names_profile_channels_and_component(capsys: Capture) -> None:
    (row,) = ask(capsys, "pkg:pypi/aiohttp<3.13")
    assert (row["name"], row["profile"], row["channels"]) == ("demo", "development", ["stable"])
    assert row["component"]["purl"] == "pkg:pypi/aiohttp@3.12.1"
    assert main(["affected", "pkg:pypi/aiohttp<3.13"]) == 0
    shown = capsys.readouterr().out
    assert "pkg:pypi/aiohttp@3.12.1" in shown
    assert "stable" in shown


@pytest.mark.usefixtures("world")
def test_only_a_channel_is_shown_if_it_is_named(capsys: Capture) -> None:
    assert [one["version"] for one in ask(capsys, "aiohttp", "--channel", "canary")] == ["2.0.0"]


def test_a_new_version_is_found_although_others_were_read_before(
    world: World, capsys: Capture
) -> None:
    assert ask(capsys, "torch") == []
    world.release("3.0.0", sbom=sbom("torch==2.5.0"))
    assert [one["version"] for one in ask(capsys, "torch")] == ["3.0.0"]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    "query", ["", "pkg:", "pkg:pypi/aiohttp<<3", "pkg:npm/left<2", "a b", "sha256:xyz", "<3", "[]"]
)
def test_what_is_no_question_exits_2_with_an_example(capsys: Capture, query: str) -> None:
    assert main(["affected", query]) == 2
    assert "forge affected 'pkg:pypi/aiohttp<3.13'" in capsys.readouterr().err


@pytest.mark.usefixtures("world")
def test_altered_metadata_exits_7(tmp_path: Path) -> None:
    found = next((tmp_path / "store" / "tuf" / "metadata").glob("*.bundles.json"))
    newest = max(found.parent.glob("*.bundles.json"), key=lambda one: int(one.name.split(".")[0]))
    newest.write_bytes(newest.read_bytes().replace(b"demo", b"dema"))
    assert main(["affected", "aiohttp"]) == 7


def test_the_store_of_another_publisher_exits_7(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    lifecycle.init(tmp_path / "other" / "keys", passphrase=PASSPHRASE, now=datetime.now(UTC))
    root = tmp_path / "other" / "keys" / "metadata" / "1.root.json"
    assert main(["affected", "aiohttp", "--root", str(root)]) == 7
    own = world.keys / "metadata" / "1.root.json"
    assert main(["affected", "aiohttp", "--root", str(own)]) == 0


def test_an_sbom_that_is_damaged_or_gone_is_listed_as_not_known(
    world: World, capsys: Capture
) -> None:
    world.publish("4.0.0")  # its proofs are made up
    assert main(["affected", "aiohttp", "--json"]) == 0
    (unread,) = json.loads(capsys.readouterr().out)["unread"]
    assert unread["version"] == "4.0.0"
    assert unread["reason"]
    assert main(["affected", "torch"]) == 0
    shown = capsys.readouterr().out
    assert "torch is in none of 2 SBOMs" in shown
    assert "components not known" in shown


@pytest.mark.usefixtures("world")
def test_a_cache_that_is_damaged_is_made_again(tmp_path: Path, capsys: Capture) -> None:
    before = ask(capsys, "aiohttp")
    (file,) = (tmp_path / "cache").glob("components-*.sqlite")
    file.write_bytes(b"not a database" * 1000)
    assert ask(capsys, "aiohttp") == before
    assert ask(capsys, "aiohttp") == before
    assert file.read_bytes().startswith(b"SQLite format 3")


def sign(*arguments: str) -> int:
    status = ["--status", "not_affected", "--justification", "vulnerable_code_not_in_execute_path"]
    return main(["vex", "1.0.0", "CVE-2025-53643", "pkg:pypi/aiohttp<3.13", *status, *arguments])


@pytest.fixture
def keys(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("FORGE_KEYS", str(world.keys))
    return world.keys


def test_the_root_of_a_named_keys_folder_is_used_and_else_the_stores_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert main(["affected", "aiohttp"]) == 0
    assert "first root of the store" in capsys.readouterr().err
    monkeypatch.setenv("FORGE_KEYS", str(world.keys))
    assert main(["affected", "aiohttp"]) == 0
    assert capsys.readouterr().err == ""
    lifecycle.init(tmp_path / "other", passphrase=PASSPHRASE, now=datetime.now(UTC))
    monkeypatch.setenv("FORGE_KEYS", str(tmp_path / "other"))
    assert main(["affected", "aiohttp"]) == 7


@pytest.mark.usefixtures("keys")
def test_a_signed_statement_is_shown_with_what_it_is_about(capsys: Capture) -> None:
    assert sign() == 0
    capsys.readouterr()
    found = ask(capsys, "pkg:pypi/aiohttp")
    said = {one["version"]: one["statements"] for one in found}
    assert said["2.0.0"] == []
    assert said["1.0.0"][0]["vulnerability"] == "CVE-2025-53643"
    assert said["1.0.0"][0]["status"] == "not_affected"
    assert said["1.0.0"][0]["components"] == ["pkg:pypi/aiohttp@3.12.1"]
    assert ask(capsys, "numpy")[0]["statements"] == [], "it is about another component"
    assert main(["affected", "aiohttp"]) == 0
    assert "CVE-2025-53643 not_affected" in capsys.readouterr().out


@pytest.mark.usefixtures("keys")
def test_a_statement_by_another_key_or_about_another_tree_is_ignored(
    world: World, tmp_path: Path, capsys: Capture
) -> None:
    assert sign() == 0
    (file,) = (tmp_path / "store" / "vex").rglob("*.json")
    document = json.loads(file.read_bytes())
    other = Catalog(world.objects).manifest("demo", "2.0.0", "development").tree.digest
    moved = tmp_path / "store" / "vex" / other / file.name
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    payload = base64.b64decode(document["payload"]).replace(b"not_affected", b"fixed")
    document["payload"] = base64.b64encode(payload).decode()
    file.write_text(json.dumps(document))
    capsys.readouterr()
    assert [one["statements"] for one in ask(capsys, "aiohttp")] == [[], []]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1.0.0", "CVE-1", "torch", "--status", "fixed"], "has no torch"),
        (["1.0.0", "CVE-1", "aiohttp", "--status", "not_affected"], "requires a reason"),
        (["1.0.0", "CVE-1", "aiohttp", "--status", "affected"], "requires what to do"),
        (["1.0.0", "a b", "aiohttp", "--status", "fixed"], "is not an id of a vulnerability"),
        (["9.0.0", "CVE-1", "aiohttp", "--status", "fixed"], "is not published"),
        (["1.0.0", "CVE-1", "aiohttp", "--status", "not_affected", "--justification", "x"],
         "no justification 'x'"),
    ],
)  # fmt: skip
def test_a_statement_that_is_not_complete_exits_2(
    tmp_path: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(["vex", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "store" / "vex").exists()
