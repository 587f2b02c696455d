"""`forge device detect`, `provision`, `status` and `power`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.bundle import Operating
from forge.cli import main
from forge.device import commands
from forge.device.hardware.compute_target import CPU, ComputeTarget
from forge.device.hardware.facts import collect
from forge.device.hardware.inventory import parse
from forge.device.power.control import PowerControl
from forge.device.power.plan import PowerReport
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import read_settings
from forge.device.state_machine.journal import FailedRelease, Journal
from forge.device.telemetry.status import AgentReport, ChannelCheck, write_agent
from forge.errors import ConfigurationError, UsageError
from forge.profiles import MatchSection, PowerSection, Profile, ThermalSection
from forge.serving.triton.containment import Containment
from forge.store import open_objects
from forge.store.backends.mirrors import Mirrors, Standing
from tests.support.captured import replay, unpack
from tests.support.machines import FakeMachine
from tests.support.manifests import manifest

RELEASE, OTHER = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
ROOT_JSON = b'{"signed": {"_type": "root"}}'


@pytest.mark.parametrize(
    "url", ["ftp://host/store", "htps://host", "s3://", "file://host/path", "s3://key:secret@b/p"]
)
def test_a_url_that_is_no_store_is_refused_and_nothing_is_written(tmp_path: Path, url: str) -> None:
    state = tmp_path / "state"
    with pytest.raises(ConfigurationError, match="is not a valid store URL") as caught:
        commands.provision(state, url, ROOT_JSON, "llm", "stable")
    assert caught.value.exit_code == 3
    assert "secret" not in str(caught.value)
    assert not state.exists()


def test_a_store_that_is_not_there_yet_may_be_named(tmp_path: Path) -> None:
    made = commands.provision(
        tmp_path / "state", str(tmp_path / "later"), ROOT_JSON, "llm", "canary"
    )
    assert made.store_url == str(tmp_path / "later")
    assert read_settings(tmp_path / "state") == (made, ROOT_JSON)


def test_a_relative_folder_is_kept_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = commands.provision(tmp_path / "state", "a:b", ROOT_JSON, "llm", "stable")
    assert made.store_url == str(tmp_path / "a:b")


def test_provision_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root.json").write_bytes(ROOT_JSON)
    argv = [
        "device",
        "provision",
        "--store",
        "s3://bundles/prod",
        "--name",
        "llm",
        "--json",
        "--offline",
    ]
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
    argv += ["--offline"]
    argv += ["--mirror", "s3://bundles/prod", "--mirror", str(tmp_path / "usb")]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(tmp_path / "state")]
    assert main([*argv, "--limit-rate", "2M", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["mirrors"] == ["s3://bundles/prod", str(tmp_path / "usb")]
    assert shown["limit_rate"] == 2_000_000
    kept, _ = read_settings(tmp_path / "state")
    assert (list(kept.mirrors), kept.limit_rate) == (shown["mirrors"], 2_000_000)


def test_provision_keeps_the_gpu_and_says_nothing_of_it_where_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root.json").write_bytes(ROOT_JSON)
    argv = ["device", "provision", "--store", "https://a.example.com/prod", "--name", "llm"]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(tmp_path / "state")]
    argv += ["--offline"]
    assert main(argv) == 0
    device = tmp_path / "state" / "device.json"
    assert b"gpu" not in device.read_bytes()  # an older agent can read it
    uuid = "GPU-8f3d2c5e-0000-1111-2222-333344445555"
    assert main([*argv, "--gpu", uuid]) == 0
    assert read_settings(tmp_path / "state")[0].gpu == uuid
    assert main([*argv, "--gpu", "fast one"]) == 2
    assert "nvidia-smi -L" in capsys.readouterr().err


@pytest.mark.parametrize("name", [None, "0", "12", "GPU-8f3d", "MIG-8f3d", "MIG-GPU-8f/1/0"])
def test_a_gpu_is_named_by_its_uuid_or_number(name: str | None) -> None:
    assert commands.check_gpu(name) == name


@pytest.mark.parametrize("name", ["", "-1", "1000", "GPU-", "GPU-a b", "cuda:0", "GPU-a\n"])
def test_another_name_of_a_gpu_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name"):
        commands.check_gpu(name)


@pytest.mark.parametrize("rate", ["0", "1023", "-5", "fast", "1.5M", "10T", "9" * 30])
def test_a_rate_that_is_none_is_refused(
    tmp_path: Path, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root.json").write_bytes(ROOT_JSON)
    argv = ["device", "provision", "--store", "https://a.example.com", "--name", "llm"]
    argv += ["--root", str(tmp_path / "root.json"), "--state", str(tmp_path / "state")]
    assert main([*argv, f"--limit-rate={rate}"]) == 2
    assert "for example 500k or 2M" in capsys.readouterr().err
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


def test_run_on_a_store_that_is_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, store = tmp_path / "state", tmp_path / "gone"
    commands.provision(state, str(store), ROOT_JSON, "llm", "stable")
    assert main(["device", "run", "--once", "--state", str(state)]) == 9
    shown = capsys.readouterr().err
    assert f"No store at {store}" in shown
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
    home = StateDirectory(state)
    places = (Standing(gone, failures=3), Standing(usb, served_last=True))
    report = AgentReport(
        pid=os.getpid(),
        url=None,
        started="2026-11-26T00:00:00Z",
        hardware=parse(collect()),
        look=ChannelCheck(at="2026-11-26T00:00:00Z", places=places),
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


def test_status_says_what_contains_the_model_server_and_what_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    commands.provision(state, str(tmp_path / "store"), ROOT_JSON, "llm", "stable")
    home = StateDirectory(state)
    report = AgentReport(
        pid=os.getpid(),
        url=None,
        started="2026-11-26T00:00:00Z",
        hardware=parse(collect()),
        look=None,
        containment=Containment(in_force=("files",), missing={"network": "not permitted"}),
    )
    with home.locked():
        write_agent(home, report)
        assert main(["device", "status", "--state", str(state)]) == 0
        lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
        shown = {name.strip(): rest.strip() for name, rest in (one for one in lines if one[1:])}
        assert shown["contained"] == "files"
        assert shown["not contained"] == "network: not permitted"
        assert main(["device", "status", "--state", str(state), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["agent"]["containment"]
    assert found == {"in_force": ["files"], "missing": {"network": "not permitted"}}


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


@pytest.mark.parametrize(
    "root",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"signed": []}',
        b'{"signed": {"_type": "targets"}}',
        b'{"_type": "root"}',
        b"[" * 100_000,
        b'{"signed": {"_type": "root"}, "x": "' + b" " * 512_000 + b'"}',
    ],
)
def test_what_is_not_root_metadata_is_refused_and_nothing_is_written(
    tmp_path: Path, root: bytes
) -> None:
    state = tmp_path / "state"
    with pytest.raises(ConfigurationError, match="not TUF root metadata") as caught:
        commands.provision(state, "s3://b/p", root, "llm", "stable")
    assert "root.json" in caught.value.hint
    assert not state.exists()


@pytest.mark.parametrize(
    ("name", "channel", "profile", "said"),
    [
        ("../llm", "stable", None, "Bundle"),
        ("", "stable", None, "Bundle"),
        ("llm", "sta/ble", None, "Channel"),
        ("llm", "stable", "", "Profile"),
    ],
)
def test_names_are_checked_before_anything_is_written(
    tmp_path: Path, name: str, channel: str, profile: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        commands.provision(tmp_path / "state", "s3://b/p", ROOT_JSON, name, channel, profile)
    assert not (tmp_path / "state").exists()


def test_provisioning_again_changes_the_settings_and_keeps_the_journal(tmp_path: Path) -> None:
    commands.provision(tmp_path, "s3://b/p", ROOT_JSON, "llm", "stable", limit_rate=2000)
    home, journal = StateDirectory(tmp_path), Journal(active="a", slots={"a": RELEASE})
    home.write_journal(journal)
    commands.provision(tmp_path, "s3://b/p", ROOT_JSON, "llm", "canary")
    device, _ = read_settings(tmp_path)
    assert (device.channel, device.limit_rate) == ("canary", None)
    assert home.journal() == journal


def test_status_is_what_settings_and_journal_say(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not set up"):
        commands.status(tmp_path)
    commands.provision(tmp_path, "s3://b/p", ROOT_JSON, "llm", "stable")
    held = FailedRelease(release=OTHER, reason="by hand", at="2026-11-28T00:00:00Z")
    journal = Journal(
        state="probing", active="a", target="b", candidate=OTHER, slots={"a": RELEASE},
        previous=OTHER, bad=(held,), held=held, rollbacks=(held, held),
    )  # fmt: skip
    StateDirectory(tmp_path).write_journal(journal)
    shown = commands.status(tmp_path)
    assert (shown.store_url, shown.name, shown.channel) == ("s3://b/p", "llm", "stable")
    assert (shown.state, shown.slot, shown.agent) == ("probing", "a", None)
    assert (shown.release, shown.candidate, shown.previous) == (RELEASE, OTHER, OTHER)
    assert (shown.bad, shown.held, shown.rollbacks) == ((held,), held, (held, held))


@pytest.mark.parametrize(
    ("capture", "profile"),
    [("thor-jetpack-7.1", "jetson-agx-thor"), ("no-gpu", "development")],
)
def test_a_captured_machine_is_detected_with_its_profile(
    tmp_path: Path, rules: dict[str, tuple[str, MatchSection]], capture: str, profile: str
) -> None:
    root = unpack(capture, tmp_path)
    found = commands.detect(rules, root=root, run=replay(capture))
    assert found.profile == profile
    assert found.hardware == parse(collect(root, replay(capture)))
    by_hand = commands.detect(rules, profile="development", root=root, run=replay(capture))
    assert by_hand.profile == "development"
    with pytest.raises(UsageError):
        commands.detect(rules, profile="no-such", root=root, run=replay(capture))


@pytest.mark.parametrize("as_json", [False, True])
def test_detect_shows_the_machine_also_where_no_profile_is_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    *, as_json: bool,
) -> None:  # fmt: skip
    machine = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", machine.path)
    machine.smi("NVIDIA GeForce RTX 5090, 32607, 590.44.01, 12.0, GPU-5090, [N/A]\n")
    assert main(["device", "detect", *(["--json"] if as_json else [])]) == 8
    shown = capsys.readouterr()
    assert "NVIDIA GeForce RTX 5090" in shown.out
    assert "No profile of this channel matches" in shown.err
    if as_json:
        assert json.loads(shown.out)["profile"] is None


WANTED = PowerSection(mode="MAXN", limit_w=None, lock_clocks=True)


def hold(home: StateDirectory, power: PowerSection | None, thermal: ThermalSection) -> None:
    """Let the bundle of the active slot want this."""
    operating = Operating(power=power, thermal=thermal) if power else None
    sealed = manifest("1.0.0").model_copy(update={"operating": operating})
    home.slots.set_aside("a")
    home.slots.mark_complete("a", sealed)
    home.write_journal(Journal(active="a", slots={"a": Release.of(sealed)}))


def test_power_is_wanted_by_hand_then_by_the_bundle_then_by_the_hardware(
    tmp_path: Path, shipped: dict[str, Profile]
) -> None:
    home, control = StateDirectory(tmp_path / "state"), PowerControl()
    plain = commands.power(home.path, shipped, control=control)
    assert plain.wanted_by.startswith("profile ")
    home.clean()
    thermal = shipped["development"].thermal
    hold(home, WANTED, thermal)
    by_bundle = commands.power(home.path, shipped, control=control)
    assert (by_bundle.wanted_by, by_bundle.power.wanted) == (
        "the bundle of the active slot",
        WANTED,
    )
    by_hand = commands.power(home.path, shipped, profile="development", control=control)
    assert by_hand.wanted_by == "profile development"
    assert by_hand.power.wanted == shipped["development"].power
    hold(home, None, thermal)  # a bundle that says nothing of power
    assert commands.power(home.path, shipped, control=control) == plain


def test_power_is_changed_only_where_it_is_asked_for(
    tmp_path: Path, shipped: dict[str, Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    control, called = PowerControl(), list[str]()
    report = control.report(None, CPU)

    def observed(name: str) -> Callable[[PowerSection | None, ComputeTarget], PowerReport]:
        def call(_wanted: PowerSection | None, _target: ComputeTarget) -> PowerReport:
            called.append(name)
            return report

        return call

    for name in ("apply", "report"):
        monkeypatch.setattr(control, name, observed(name))
    commands.power(tmp_path, shipped, control=control)
    commands.power(tmp_path, shipped, control=control, apply=True)
    assert called == ["report", "apply"]


def test_power_of_a_folder_that_cannot_be_read_is_not_that_of_the_hardware(
    tmp_path: Path, shipped: dict[str, Profile]
) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        commands.power(tmp_path, shipped)
    assert "--profile" in caught.value.hint
    commands.power(tmp_path, shipped, profile="development", control=PowerControl())
