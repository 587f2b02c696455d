"""Provisioning: what cannot be a store is refused then, not at the first look."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forge.cli import main
from forge.device import commands
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.report import AgentReport, Look, write_agent
from forge.device.slots import Home
from forge.errors import ConfigurationError, UsageError
from forge.store import open_objects
from forge.store.mirrors import Mirrors, Standing

ROOT_JSON = b'{"signed": {"_type": "root"}}'


@pytest.mark.parametrize(
    "url", ["ftp://host/store", "htps://host", "s3://", "file://host/path", "s3://key:secret@b/p"]
)
def test_a_url_that_is_no_store_is_refused_and_nothing_is_written(tmp_path: Path, url: str) -> None:
    state = tmp_path / "state"
    with pytest.raises(ConfigurationError, match="is not a store") as caught:
        commands.provision(state, url, ROOT_JSON, "llm", "stable")
    assert caught.value.exit_code == 3
    assert "secret" not in str(caught.value)
    assert not state.exists()


def test_a_store_that_is_not_there_yet_may_be_named(tmp_path: Path) -> None:
    made = commands.provision(
        tmp_path / "state", str(tmp_path / "later"), ROOT_JSON, "llm", "canary"
    )
    assert made.store_url == str(tmp_path / "later")
    assert Home(tmp_path / "state").provisioned() == (made, ROOT_JSON)


def test_a_relative_folder_is_kept_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = commands.provision(tmp_path / "state", "a:b", ROOT_JSON, "llm", "stable")
    assert made.store_url == str(tmp_path / "a:b")


def test_provision_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root.json").write_bytes(ROOT_JSON)
    argv = ["device", "provision", "--store", "s3://bundles/prod", "--name", "llm", "--json"]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(tmp_path / "state")]
    assert main(argv) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["store_url"] == "s3://bundles/prod"
    assert (shown["name"], shown["channel"]) == ("llm", "stable")


def test_provision_keeps_mirrors_and_the_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root.json").write_bytes(ROOT_JSON)
    argv = ["device", "provision", "--store", "https://a.example.com/prod", "--name", "llm"]
    argv += ["--mirror", "s3://bundles/prod", "--mirror", str(tmp_path / "usb")]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(tmp_path / "state")]
    assert main([*argv, "--limit-rate", "2M", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["mirrors"] == ["s3://bundles/prod", str(tmp_path / "usb")]
    assert shown["limit_rate"] == 2_000_000
    kept, _ = Home(tmp_path / "state").provisioned()
    assert (list(kept.mirrors), kept.limit_rate) == (shown["mirrors"], 2_000_000)


@pytest.mark.parametrize("rate", ["0", "1023", "-5", "fast", "1.5M", "10T", "9" * 30])
def test_a_rate_that_is_none_is_refused(
    tmp_path: Path, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root.json").write_bytes(ROOT_JSON)
    argv = ["device", "provision", "--store", "https://a.example.com", "--name", "llm"]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(tmp_path / "state")]
    assert main([*argv, f"--limit-rate={rate}"]) == 2
    assert "like 500k or 2M" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("mirror", ["http://plant.example.com/prod", "ftp://host/store"])
def test_a_mirror_that_cannot_be_one_is_refused(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(ConfigurationError):
        commands.provision(
            tmp_path / "state",
            "https://a.example.com",
            ROOT_JSON,
            "llm",
            "stable",
            mirrors=[mirror],
        )
    assert not (tmp_path / "state").exists()


def test_too_many_mirrors_are_refused(tmp_path: Path) -> None:
    many = [f"https://{number}.example.com" for number in range(9)]
    with pytest.raises(UsageError, match="9 mirrors are too many"):
        commands.provision(
            tmp_path / "state", "https://a.example.com", ROOT_JSON, "llm", "stable", mirrors=many
        )


def test_settings_from_before_there_were_mirrors_are_still_read(tmp_path: Path) -> None:
    commands.provision(tmp_path, str(tmp_path / "store"), ROOT_JSON, "llm", "stable")
    old = {"store_url": "s3://b/p", "name": "llm", "channel": "stable", "profile": None}
    (tmp_path / "device.json").write_text(json.dumps(old))
    device, _ = Home(tmp_path).provisioned()
    assert (device.schema_version, device.mirrors, device.limit_rate) == (1, (), None)
    (tmp_path / "device.json").write_text(json.dumps(old | {"schema_version": 3}))
    with pytest.raises(ConfigurationError, match="schema_version"):
        Home(tmp_path).provisioned()


def test_run_on_a_store_that_is_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, store = tmp_path / "state", tmp_path / "gone"
    commands.provision(state, str(store), ROOT_JSON, "llm", "stable")
    assert main(["device", "run", "--once", "--state", str(state)]) == 9
    shown = capsys.readouterr().err
    assert f"There is no store at {store}" in shown
    assert "forge device provision --store" in shown
    assert "keys refresh" not in shown


def test_json_of_an_agent_that_never_ends_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", "run", "--json", "--state", str(tmp_path)]) == 2
    assert "--events -" in capsys.readouterr().err


def test_status_shows_every_mirror_and_who_served_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, (gone, usb) = tmp_path / "state", (str(tmp_path / "gone"), str(tmp_path / "usb"))
    commands.provision(state, gone, ROOT_JSON, "llm", "stable", mirrors=(usb,))
    argv = ["device", "status", "--state", str(state)]
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mirrors"] == [usb]
    home = Home(state)
    places = (Standing(gone, failures=3), Standing(usb, served_last=True))
    report = AgentReport(
        pid=os.getpid(),
        url=None,
        started="2026-11-26T00:00:00Z",
        hardware=parse(collect()),
        look=Look(at="2026-11-26T00:00:00Z", places=places),
    )
    with home.locked():  # this process is the agent that runs
        write_agent(home, report)
        assert main(argv) == 0
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert ["store", f"{gone} (failed 3 times in a row)"] in lines
        assert ["mirror", f"{usb} (served last)"] in lines
        assert main([*argv, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["agent"]["look"]["places"]
    assert shown == [
        {"url": gone, "failures": 3, "served_last": False},
        {"url": usb, "failures": 0, "served_last": True},
    ]


def test_a_look_says_how_the_store_and_its_mirrors_did(tmp_path: Path) -> None:
    store, usb = tmp_path / "store", tmp_path / "usb"
    for folder in (store, usb):
        (folder / "trees").mkdir(parents=True)
    (usb / "trees" / "a.json").write_bytes(b"a tree")
    places = open_objects(str(store), mirrors=(str(usb),))
    assert isinstance(places, Mirrors)
    assert places.standings() == (Standing(str(store)), Standing(str(usb)))
    places.read("trees/a.json", max_bytes=100)
    assert [one.served_last for one in places.standings()] == [False, True]
    (store / "trees" / "a.json").symlink_to("a.json")  # reading it fails
    places.read("trees/a.json", max_bytes=100)
    preferred, other = places.standings()
    assert (preferred.failures, preferred.served_last) == (1, False)
    assert (other.failures, other.served_last) == (0, True)
