"""Commands that cannot be taken back, or whose name may be mistyped, ask first."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from forge.cli import main
from forge.cli.confirm import confirm, confirm_new_channel
from forge.errors import UsageError
from forge.release.catalog import Catalog
from tests.support.release_world import PASSPHRASE, World

Said = pytest.CaptureFixture[str]


class Terminal:
    """Stands for a terminal: whether it is one, and what is answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answer: bool) -> None:
        self.asked: list[str] = []
        self._answer = answer
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(click, "confirm", self._confirm)

    def _confirm(self, question: str, **_: object) -> bool:
        self.asked.append(question)
        return self._answer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A store with a real release on `canary`; commands run in its project."""
    for name in ("pipelines", "profiles"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FORGE_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    (tmp_path / "artifacts").symlink_to(tmp_path / "store")
    made = World(tmp_path, now=datetime.now(UTC))
    made.release("1.0.0")
    return made


def channels(world: World) -> dict[str, str]:
    return Catalog(world.objects).channels("demo")


def test_without_a_terminal_only_yes_confirms(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(UsageError, match=r"Not confirmed: Do it\?") as caught:
        confirm("Do it?", ["It does this."], yes=False)
    assert caught.value.why == "there is no terminal to ask"
    assert "--yes" in caught.value.hint
    assert caught.value.exit_code == 2
    confirm("Do it?", ["It does that."], yes=True)
    assert capsys.readouterr().err == "It does this.\nIt does that.\n"


def test_answer_decides_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, answer=True)
    confirm("Do it?", yes=False)
    assert terminal.asked == ["Do it?"]
    Terminal(monkeypatch, answer=False)
    with pytest.raises(UsageError, match="Not confirmed") as caught:
        confirm("Do it?", yes=False)
    assert caught.value.why == "nothing was changed"


def test_channel_that_is_there_needs_no_answer() -> None:
    confirm_new_channel("stable", "demo", ["canary", "stable"], "1.0.0", yes=False)
    with pytest.raises(UsageError, match="Create the channel stable1 of demo for 1"):
        confirm_new_channel("stable1", "demo", ["canary", "stable"], "1.0.0", yes=False)


def test_promotion_to_a_new_channel_is_confirmed_and_to_a_present_one_is_not(
    world: World, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["promote", "1.0.0", "stable1"]) == 2
    said = capsys.readouterr().err
    assert "demo has no channel stable1; its channels: canary" in said
    assert "--yes" in said
    assert channels(world) == {"canary": "1.0.0"}
    assert main(["promote", "1.0.0", "stable", "--yes"]) == 0
    world.release("1.1.0")
    assert main(["promote", "1.1.0", "stable"]) == 0
    assert main(["promote", "1.0.0", "stable", "--force", "--json"]) == 0
    assert channels(world)["stable"] == "1.0.0"
    terminal = Terminal(monkeypatch, answer=False)
    assert main(["promote", "1.0.0", "beta"]) == 2
    assert terminal.asked == ["Create the channel beta of demo for 1.0.0?"]
    assert "beta" not in channels(world)


def test_promotion_of_an_unknown_version_is_refused_and_not_asked_about(
    world: World, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch, answer=True)
    assert main(["promote", "9.9.9", "beta"]) == 2
    assert "known: 1.0.0" in capsys.readouterr().err
    assert terminal.asked == []
    assert channels(world) == {"canary": "1.0.0"}


def test_channel_is_removed_when_it_is_confirmed(world: World, capsys: Said) -> None:
    assert main(["promote", "1.0.0", "beta", "--yes"]) == 0
    assert main(["channel", "rm", "beta"]) == 2
    assert "beta points to 1.0.0" in capsys.readouterr().err
    assert "beta" in channels(world)
    assert main(["channel", "rm", "beta", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "1.0.0"
    assert channels(world) == {"canary": "1.0.0"}
    assert main(["channel", "rm", "beta", "--yes"]) == 2
    assert "its channels: canary" in capsys.readouterr().err


def test_version_is_yanked_when_it_is_confirmed(world: World, capsys: Said) -> None:
    world.release("1.1.0")
    assert main(["bundle", "yank", "1.0.0"]) == 2
    assert "No channel can point to it again" in capsys.readouterr().err
    assert main(["bundle", "yank", "1.0.0", "--yes"]) == 0
    assert main(["bundle", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.partition("development\n")[2])
    assert {row["version"]: row["yanked"] for row in listed} == {"1.0.0": True, "1.1.0": False}
    assert main(["bundle", "list"]) == 0
    assert "(yanked)" in capsys.readouterr().out
    assert main(["promote", "1.0.0", "canary", "--force"]) == 2
    assert "was yanked on" in capsys.readouterr().err


@pytest.mark.parametrize("role", ["bundles", "model"])
def test_revocation_lists_what_it_ends_and_asks(world: World, capsys: Said, role: str) -> None:
    world.release("1.1.0")
    world.promote("1.0.0", "stable")
    before = world.ring().file
    assert main(["keys", "rotate", role, "--revoke"]) == 2
    said = capsys.readouterr().err
    assert "demo 1.1.0 for development, on the channel canary" in said
    assert "demo 1.0.0 for development, on the channel stable" in said
    assert "Channels without an installable version: demo canary, demo stable" in said
    assert f"Revoke the {role} key and end these 2 versions?" in said
    assert world.ring().file == before
    assert main(["keys", "rotate", role, "--revoke", "--yes"]) == 0
    capsys.readouterr()
    world.release("1.2.0")
    assert main(["keys", "rotate", role, "--revoke"]) == 2
    said = capsys.readouterr().err
    assert "end these 1 versions" in said  # the others have ended already
    assert "1.1.0" not in said


@pytest.mark.usefixtures("world")
def test_rotation_that_ends_nothing_does_not_ask() -> None:
    assert main(["keys", "rotate", "bundles"]) == 0
    assert main(["keys", "rotate", "online"]) == 0


def test_revocation_of_a_role_without_proofs_is_refused(world: World, capsys: Said) -> None:
    before = world.ring().file
    assert main(["keys", "rotate", "online", "--revoke", "--yes"]) == 2
    assert "--revoke is for bundles and model" in capsys.readouterr().err
    assert world.ring().file == before
