"""What `forge device provision` tries before it writes anything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from forge.cli import main
from forge.device.source_check import check_source
from forge.device.state.settings import read_settings
from forge.errors import ForgeError, NotInStoreError, TrustError, UsageError
from forge.release.lifecycle import keys
from tests.support.release_world import PASSPHRASE, World

Said = pytest.CaptureFixture[str]


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "w").mkdir()
    made = World(tmp_path / "w", now=datetime.now(UTC))
    made.publish("1.0.0")
    made.promote("1.0.0", "stable")
    return made


def root(world: World) -> bytes:
    return (world.keys / "root.json").read_bytes()


def test_version_of_the_channel_is_returned_and_nothing_is_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    assert check_source(world.objects.url, root(world), "demo", "stable") == "1.0.0"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_store_is_tried_with_its_mirrors(world: World, tmp_path: Path) -> None:
    gone, here = str(tmp_path / "gone"), world.objects.url
    assert check_source(gone, root(world), "demo", "canary", mirrors=[here]) == "1.0.0"
    with pytest.raises(NotInStoreError, match=f"No store at {gone}"):
        check_source(gone, root(world), "demo", "canary")


@pytest.mark.parametrize(
    ("name", "channel", "what", "hint"),
    [
        ("demo", "stable1", "has no channel 'stable1'", "its channels: canary, stable"),
        ("dmeo", "stable", "No bundle 'dmeo'", "published: demo"),
        ("demo", "../stable", "not a valid", ""),
    ],
)
def test_mistyped_name_is_refused_with_those_that_exist(
    world: World, name: str, channel: str, what: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        check_source(world.objects.url, root(world), name, channel)
    assert hint in caught.value.hint


def test_root_of_another_store_is_refused(world: World, tmp_path: Path) -> None:
    keys.init(tmp_path / "strange", passphrase=PASSPHRASE, now=world.now)
    strange = (tmp_path / "strange/root.json").read_bytes()
    with pytest.raises(TrustError) as caught:
        check_source(world.objects.url, strange, "demo", "stable")
    assert caught.value.exit_code == 7
    assert "--offline" in caught.value.hint


def test_expired_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = World(tmp_path / "old")
    old.later(days=-60)
    old.publish("1.0.0")
    with pytest.raises(TrustError, match="expired"):
        check_source(old.objects.url, root(old), "demo", "canary")


def test_provision_writes_nothing_unless_the_source_is_right_or_not_tried(
    world: World, tmp_path: Path, capsys: Said
) -> None:
    (tmp_path / "root.json").write_bytes(root(world))
    state = tmp_path / "state"
    argv = ["device", "provision", "--store", world.objects.url, "--name", "demo"]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(state)]
    assert main([*argv, "--channel", "stable1"]) == 2
    said = capsys.readouterr().err
    assert "its channels: canary, stable" in said
    assert "--offline" in said
    assert not state.exists()
    assert main([*argv, "--channel", "stable"]) == 0
    assert "That channel points to 1.0.0" in capsys.readouterr().out
    assert main([*argv, "--channel", "stable1", "--offline"]) == 0
    assert read_settings(state)[0].channel == "stable1"


def test_every_error_says_how_to_provision_without_the_store(world: World, tmp_path: Path) -> None:
    for url, name in ((str(tmp_path / "gone"), "demo"), (world.objects.url, "other")):
        with pytest.raises(ForgeError) as caught:
            check_source(url, root(world), name, "stable")
        assert caught.value.hint.endswith("to provision without the store: --offline")
