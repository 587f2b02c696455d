"""`forge bundle export`, `verify` and `pull`: what they print, and their exit codes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from forge.cli import main
from forge.release.keys.model import Expiry
from tests.support.release_world import World
from tests.support.stores import snapshot


@dataclass
class Command:
    """Runs commands for the bundle of a world."""

    world: World
    capsys: pytest.CaptureFixture[str]

    @property
    def store(self) -> list[str]:
        return ["--store", str(self.world.folder / "store")]

    @property
    def root(self) -> list[str]:
        return ["--root", str(self.world.keys / "metadata/1.root.json")]

    @property
    def file(self) -> Path:
        return self.world.folder / "demo.forge"

    def bundle(self, *words: str, code: int = 0) -> str:
        assert main(["bundle", *words]) == code
        out, err = self.capsys.readouterr()
        return out if code == 0 else out + err

    def export(self, *more: str, version: str = "1.0.0", code: int = 0) -> str:
        return self.bundle(
            "export", "demo", version, "--profile", "development", "-o", str(self.file),
            *self.store, *self.root, *more, code=code,
        )  # fmt: skip


@pytest.fixture
def forge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path, now=datetime.now(UTC))
    world.release("1.0.0")
    return Command(world, capsys)


def test_export_says_until_when_and_what_is_next(forge: Command) -> None:
    out = " ".join(forge.export().split())
    assert "demo 1.0.0 for development" in out
    assert "channel canary" in out
    expires = datetime.fromtimestamp(forge.world.now.timestamp() + 7 * 86400, UTC)
    assert f"install from it until {expires:%Y-%m-%d %H:%M} UTC" in out
    assert "forge device provision --store demo.forge --root root.json --name demo" in out
    assert "--channel canary" in out


def test_export_in_json(forge: Command) -> None:
    found = json.loads(forge.export("--json"))
    assert found["file"] == str(forge.file)
    assert found["bytes"] == forge.file.stat().st_size
    assert (found["name"], found["version"], found["profile"]) == ("demo", "1.0.0", "development")
    assert found["channels"] == ["canary"]


def test_a_name_that_does_not_exist_is_a_usage_error_with_the_name_meant(forge: Command) -> None:
    words = ["export", "demo", "1.0.0", "--profile", "developmen", "-o", "x.forge", *forge.store]
    assert "did you mean 'development'" in forge.bundle(*words, code=2)
    assert "known: 1.0.0" in forge.export(version="1.0.1", code=2)


def test_a_version_on_no_channel_is_not_exported(forge: Command) -> None:
    forge.world.release("1.1.0")
    assert "forge promote 1.0.0 CHANNEL --name demo" in forge.export(code=2)
    assert not forge.file.exists()


def test_verify_names_what_is_sound(forge: Command) -> None:
    forge.export()
    out = forge.bundle("verify", str(forge.file), *forge.root)
    assert "0 damaged" in out
    assert "demo 1.0.0 for development, channel canary: signatures and proofs are valid" in out
    found = json.loads(forge.bundle("verify", str(forge.file), *forge.root, "--json"))
    assert found["ok"] is True
    assert found["bundles"] == [{"name": "demo", "version": "1.0.0", "profile": "development"}]


def test_verify_names_what_is_damaged_with_exit_code_9(forge: Command) -> None:
    forge.export()
    data = forge.file.read_bytes()
    place = data.index(b"engine of 1.0.0")
    forge.file.write_bytes(data[:place] + b"E" + data[place + 1 :])
    out = forge.bundle("verify", str(forge.file), *forge.root, code=9)
    assert "packs/" in out
    assert "1 damaged" in out
    assert main(["bundle", "verify", str(forge.file), *forge.root, "--json"]) == 9
    found = json.loads(forge.capsys.readouterr().out)
    assert (found["ok"], found["expires"], len(found["problems"])) == (False, None, 1)
    forge.file.write_bytes(data[:-100])
    assert "is damaged" in forge.bundle("verify", str(forge.file), *forge.root, code=9)


def test_verify_by_another_root_has_exit_code_7(forge: Command, tmp_path: Path) -> None:
    forge.export()
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", expiry=Expiry())
    root = str(other.keys / "metadata/1.root.json")
    forge.bundle("verify", str(forge.file), "--root", root, code=7)


def test_pull_unpacks_from_a_store_and_from_a_file(forge: Command, tmp_path: Path) -> None:
    forge.export()
    words = ["--profile", "development", *forge.root]
    out = forge.bundle("pull", "demo", "1.0.0", str(tmp_path / "one"), *words, *forge.store)
    assert "demo 1.0.0 for development" in out
    forge.bundle(
        "pull", "demo", "1.0.0", str(tmp_path / "other"), *words, "--store", str(forge.file)
    )
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")
    assert (tmp_path / "one/models/m/1/engine/engine.bin").read_text() == "engine of 1.0.0"
    again = ["pull", "demo", "1.0.0", str(tmp_path / "one"), *words, *forge.store]
    assert "not empty" in forge.bundle(*again, code=3)


def test_commands_that_read_a_store_read_a_file(forge: Command) -> None:
    forge.export()
    assert "demo 1.0.0" in forge.bundle("show", "1.0.0", "--store", str(forge.file))
    assert main(["store", "verify", "--store", str(forge.file)]) == 2
    assert f"forge bundle verify {forge.file} --root root.json" in " ".join(
        forge.capsys.readouterr().err.split()
    )
