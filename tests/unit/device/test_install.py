"""One command makes a service of a machine, or of an image; again it changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from forge.device.install import Installer, UpdateSource, this_program, unit_template
from forge.device.install_plan import UNIT
from forge.device.state.settings import read_settings
from forge.errors import ConfigurationError, StepFailedError, UsageError

PROGRAM = Path("/opt/forge/bin/forge")
ROOT = b'{"signed": {"_type": "root"}, "signatures": []}'
SOURCE = UpdateSource("https://bundles.example/prod", ROOT, "llm", "stable", offline=True)
SHIM = """#!/bin/sh
echo "$(basename "$0") $*" >> {calls}
case "$(basename "$0") $*" in
  useradd*) echo "forge:x:$(id -u):$(id -g)::/:/" >> {root}/etc/passwd
            echo "forge:x:$(id -g):" >> {root}/etc/group ;;
  userdel*) : > {root}/etc/passwd ;;
  "systemctl is-active"*) test -e {root}/running; exit $? ;;
  *" is-enabled"*) test -e {root}/enabled; exit $? ;;
  *" enable"*) touch {root}/enabled ;;
  "systemctl restart"*|"systemctl start"*) touch {root}/running ;;
  "systemctl disable"*) rm -f {root}/running {root}/enabled ;;
  "systemctl stop"*) rm -f {root}/running ;;
esac
test ! -e {root}/fails || {{ echo "$(cat {root}/fails)" >&2; exit 1; }}
"""


@dataclass
class Machine:
    """A root folder, and the programs that would change the machine."""

    root: Path
    calls: Path
    lines: list[str] = field(default_factory=list)

    def installer(self, *, image: bool = False, dry_run: bool = False) -> Installer:
        self.lines.clear()
        return Installer(
            self.root, image=image, program=PROGRAM, dry_run=dry_run, report=self.lines.append
        )

    def called(self) -> list[str]:
        """What was called since the last time."""
        found = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line for line in found if not {"is-active", "is-enabled"} & set(line.split())]

    def path(self, name: str) -> Path:
        return self.root / name

    def mode(self, name: str) -> int:
        return stat.S_IMODE(self.path(name).stat().st_mode)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    root, bin_ = tmp_path / "root", tmp_path / "bin"
    for folder in (root / "etc", root / "run/systemd/system", bin_):
        folder.mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nforger:x:77:77::/:/\n")
    made = Machine(root, tmp_path / "calls")
    shims(bin_, made, ("useradd", "userdel", "systemctl"))
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return made


def shims(folder: Path, machine: Machine, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).write_text(SHIM.format(calls=machine.calls, root=machine.root))
        (folder / name).chmod(0o755)


def test_a_machine_has_user_folders_settings_and_a_running_service(machine: Machine) -> None:
    machine.installer().install(SOURCE)
    useradd, *rest = machine.called()
    assert useradd.startswith("useradd --system --user-group --home-dir /var/lib/forge ")
    assert useradd.endswith("--shell /usr/sbin/nologin forge")
    assert rest == [
        "systemctl daemon-reload", f"systemctl enable {UNIT}", f"systemctl restart {UNIT}",
    ]  # fmt: skip
    assert machine.mode("etc/forge/device.env") == 0o600
    assert machine.mode("var/lib/forge") == 0o750
    settings, root_bytes = read_settings(machine.path("var/lib/forge"))
    assert (settings.store_url, settings.name) == (SOURCE.store_url, "llm")
    assert root_bytes == ROOT
    unit = machine.path(f"etc/systemd/system/{UNIT}").read_text()
    assert f"ExecStart={PROGRAM} device run --state /var/lib/forge\n" in unit
    assert unit.replace(str(PROGRAM), "/opt/forge/bin/forge") == unit_template()


def test_a_second_run_changes_nothing_and_restarts_nothing(machine: Machine) -> None:
    machine.installer().install(SOURCE)
    machine.called()
    machine.path("etc/forge/device.env").write_text("AWS_ACCESS_KEY_ID=mine\n")
    machine.installer().install(SOURCE)
    assert (machine.lines, machine.called()) == ([], [])
    assert machine.path("etc/forge/device.env").read_text() == "AWS_ACCESS_KEY_ID=mine\n"


def test_a_service_that_was_disabled_or_has_ended_is_enabled_and_started_again(
    machine: Machine,
) -> None:
    machine.installer().install(SOURCE)
    machine.called()
    machine.path("enabled").unlink()
    machine.installer().install(SOURCE)
    assert machine.called() == [f"systemctl enable {UNIT}"]
    machine.path("running").unlink()
    machine.installer().install(SOURCE)
    assert machine.called() == [f"systemctl restart {UNIT}"]


def test_folders_named_from_here_are_the_same_again(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = replace(SOURCE, store_url="later", mirrors=("usb",))
    machine.installer().install(source)
    settings, _ = read_settings(machine.path("var/lib/forge"))
    assert settings.store_url == str(tmp_path / "later")
    assert settings.mirrors == (str(tmp_path / "usb"),)
    machine.called()
    machine.installer().install(source)
    assert (machine.lines, machine.called()) == ([], [])


def test_another_store_stops_the_service_for_the_change(machine: Machine) -> None:
    machine.installer().install(SOURCE)
    machine.called()
    changed = UpdateSource("https://other.example/prod", ROOT, "llm", "canary", offline=True)
    machine.installer().install(changed)
    assert machine.called() == [f"systemctl stop {UNIT}", f"systemctl restart {UNIT}"]
    assert read_settings(machine.path("var/lib/forge"))[0].channel == "canary"


def test_a_source_that_is_refused_leaves_the_service_running(machine: Machine) -> None:
    machine.installer().install(SOURCE)
    machine.called()
    wrong = UpdateSource("ftp://nowhere", ROOT, "llm", "stable", offline=True)
    with pytest.raises(StepFailedError, match=r"device provision .* failed with code 3"):
        machine.installer().install(wrong)
    assert machine.called() == [f"systemctl stop {UNIT}", f"systemctl start {UNIT}"]
    assert read_settings(machine.path("var/lib/forge"))[0].store_url == SOURCE.store_url


def test_a_lost_mode_is_put_right(machine: Machine) -> None:
    machine.installer().install(SOURCE)
    machine.path("etc/forge/device.env").chmod(0o644)
    machine.installer().install(SOURCE)
    assert machine.mode("etc/forge/device.env") == 0o600
    assert machine.lines[0] == "file /etc/forge/device.env, mode 0600"


def test_a_dry_run_says_what_a_run_does_and_does_nothing(machine: Machine) -> None:
    before = sorted(machine.root.rglob("*"))
    machine.installer(dry_run=True).install(SOURCE)
    said = list(machine.lines)
    assert machine.called() == []
    assert sorted(machine.root.rglob("*")) == before
    machine.installer().install(SOURCE)
    assert machine.lines == said


def test_an_image_is_installed_into_and_nothing_is_started(machine: Machine) -> None:
    machine.installer(image=True).install(SOURCE)
    useradd, enable = machine.called()
    assert useradd.startswith(f"useradd --prefix {machine.root} --system")
    assert enable == f"systemctl --root {machine.root} enable {UNIT}"
    machine.installer(image=True).install(SOURCE)
    assert (machine.lines, machine.called()) == ([], [])


def test_a_file_that_the_service_cannot_see_is_copied_to_where_it_can(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.device.install.hidden_from_service", lambda _path: True)
    monkeypatch.setattr("forge.device.install_plan._HIDDEN", ())
    file = tmp_path / "llm.forge"
    file.write_bytes(b"a bundle")
    installer = machine.installer()
    monkeypatch.setattr(Installer, "_provision", lambda one, source: one._store(source) and False)
    installer.install(UpdateSource(str(file), ROOT, "llm", "stable"))
    copied = machine.path("var/lib/forge/source/llm.forge")
    assert (copied.read_bytes(), stat.S_IMODE(copied.stat().st_mode)) == (b"a bundle", 0o640)
    installer = machine.installer()
    installer.install(UpdateSource(str(file), ROOT, "llm", "stable"))
    assert machine.lines == []  # the same file is not copied again
    file.write_bytes(b"B bundle")
    installer.install(UpdateSource(str(file), ROOT, "llm", "stable"))
    assert machine.lines == [f"copy {file} to /var/lib/forge/source/llm.forge"]
    assert copied.read_bytes() == b"B bundle"
    folder = tmp_path / "store"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match="cannot read the store"):
        installer.install(UpdateSource(str(folder), ROOT, "llm", "stable"))


def test_without_systemd_it_says_what_was_not_done(machine: Machine) -> None:
    machine.path("run/systemd/system").rmdir()
    installer = machine.installer()
    installer.install(SOURCE)
    assert [line.split()[0] for line in machine.called()] == ["useradd"]
    assert installer.skipped == [
        f"systemd does not run here: {UNIT} is written, but neither enabled nor started"
    ]
    assert machine.path(f"etc/systemd/system/{UNIT}").exists()


def test_a_program_that_fails_says_why(machine: Machine) -> None:
    machine.path("fails").write_text("useradd: UID 0 is not unique")
    with pytest.raises(StepFailedError, match=r"useradd .* failed with code 1") as caught:
        machine.installer().install(SOURCE)
    assert caught.value.why == "useradd: UID 0 is not unique"


def test_a_machine_without_useradd_is_told_which_package_has_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="useradd is not installed here") as caught:
        machine.installer().install(SOURCE)
    assert "passwd" in caught.value.hint


def test_another_user_than_root_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lines: list[str] = []
    with pytest.raises(UsageError, match="needs root") as caught:
        Installer(program=PROGRAM, report=lines.append).install(SOURCE)
    assert (caught.value.exit_code, lines) == (2, [])
    assert "--dry-run" in caught.value.hint


def test_removing_keeps_the_state_and_purging_does_not(machine: Machine) -> None:
    machine.installer().install(SOURCE)
    machine.called()
    machine.installer().uninstall(purge=False)
    assert machine.called() == [f"systemctl disable --now {UNIT}", "systemctl daemon-reload"]
    assert not machine.path(f"etc/systemd/system/{UNIT}").exists()
    assert machine.path("var/lib/forge/device.json").exists()
    machine.installer().uninstall(purge=True)
    assert machine.called() == ["userdel forge"]
    assert not machine.path("var/lib/forge").exists()
    assert not machine.path("etc/forge").exists()
    machine.installer().uninstall(purge=True)
    assert (machine.called(), machine.lines) == ([], [])


def test_the_program_of_an_image_is_named_as_the_image_sees_it(tmp_path: Path) -> None:
    assert str(this_program(tmp_path)).endswith("/bin/forge")
    assert this_program(Path("/")).is_absolute()
