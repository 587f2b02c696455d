"""Power set by real processes; the programs are small scripts that behave as FACTS says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from forge.device.hardware.compute_target import CPU
from forge.device.power import control
from forge.device.power.control import PowerControl
from forge.profiles import PowerSection
from tests.support.captured import replay, unpack
from tests.support.machines import CARD, JETSON

CONFIG = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n< PM_CONFIG DEFAULT=1 >\n"

# Keeps the id in force in ./mode, and a line for each call in ./calls.
NVPMODEL = """
cd "{folder}"
case "$1" in
  -q) id=$(cat mode); test "$id" = 0 && name=MAXN || name=120W
      printf 'NV Fan Mode:quiet\\nNV Power Mode: %s\\n%s\\n' $name $id ;;
  -p) printf 'POWER_MODEL: ID=0 NAME=MAXN\\nPOWER_MODEL: ID=1 NAME=120W\\n' ;;
  -m) echo "nvpmodel $*" >> calls; {set} ;;
esac
"""
SETS = "echo $2 > mode"
ASKS = """
echo 'NVPM WARN: Reboot required for changing to this power mode'
echo 'enter YES/yes to confirm:'
read answer; test "$answer" = YES && touch rebooted; exit 255"""
FAILS = "echo 'NVPM ERROR: failed to set power mode!'"


class Machine:
    """A root folder, a PATH with nothing but its own programs and the shell's."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.programs = folder / "bin"
        for made in (self.root / "etc", self.programs):
            made.mkdir(parents=True)
        (self.root / "etc/nvpmodel.conf").write_text(CONFIG)
        (self.programs / "mode").write_text("1\n")

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def nvpmodel(self, does: str = SETS) -> None:
        self.program("nvpmodel", NVPMODEL.format(folder=self.programs, set=does))

    def jetson(self, *, is_root: bool = True) -> PowerControl:
        return PowerControl(root=self.root, is_root=is_root)

    @property
    def calls(self) -> list[str]:
        path = self.programs / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:/usr/bin:/bin")
    return made


def power(
    mode: str | None = None, limit_w: int | None = None, *, lock: bool = False
) -> PowerSection:
    return PowerSection(mode=mode, limit_w=limit_w, lock_clocks=lock)


def test_a_mode_is_set_and_read_back(machine: Machine) -> None:
    machine.nvpmodel()
    report = machine.jetson().apply(power("MAXN"), JETSON)
    assert (report.mode, report.problems, report.commands) == ("MAXN", (), ())
    assert machine.calls == ["nvpmodel -m 0"]
    machine.jetson().apply(power("MAXN"), JETSON)
    assert machine.calls == ["nvpmodel -m 0"]  # it is in force: nothing more to do


def test_reporting_changes_nothing(machine: Machine) -> None:
    machine.nvpmodel()
    report = machine.jetson().report(power("MAXN", lock=True), JETSON)
    assert (report.mode, report.default_mode) == ("120W", "120W")
    assert report.commands == ("nvpmodel -m 0", "jetson_clocks")
    assert machine.calls == []


def test_clocks_are_locked_in_the_mode_that_was_set(machine: Machine) -> None:
    machine.nvpmodel()
    locks = f"cd '{machine.programs}'; echo clocks in $(cat mode) >> calls"
    machine.program("jetson_clocks", locks)
    report = machine.jetson().apply(power("MAXN", lock=True), JETSON)
    assert report.problems == ()
    assert machine.calls == ["nvpmodel -m 0", "clocks in 0"]


def test_a_question_for_a_reboot_is_not_answered(machine: Machine) -> None:
    machine.nvpmodel(ASKS)
    machine.program("jetson_clocks", f"echo clocks >> '{machine.programs}'/calls")
    report = machine.jetson().apply(power("MAXN", lock=True), JETSON)
    assert report.mode == "120W"
    (problem,) = report.problems
    assert "needs a reboot and was not applied; run 'sudo nvpmodel -m 0'" in problem
    assert not (machine.programs / "rebooted").exists()
    assert machine.calls == ["nvpmodel -m 0"]  # no clocks locked in the wrong mode


def test_an_error_with_exit_code_zero_is_seen(machine: Machine) -> None:
    machine.nvpmodel(FAILS)
    (problem,) = machine.jetson().apply(power("MAXN"), JETSON).problems
    assert "NVPM ERROR: failed to set power mode!" in problem


def test_a_mode_that_was_set_and_is_not_in_force_is_said(machine: Machine) -> None:
    machine.nvpmodel(":")
    report = machine.jetson().apply(power("MAXN"), JETSON)
    assert report.problems == ("'nvpmodel -m 0' ran without effect: power mode MAXN is not set",)


def test_without_root_nothing_is_tried_and_the_command_is_shown(machine: Machine) -> None:
    machine.nvpmodel()
    report = machine.jetson(is_root=False).apply(power("MAXN"), JETSON)
    assert report.commands == ("nvpmodel -m 0",)
    assert "needs root: sudo forge device power --apply" in report.problems[0]
    assert machine.calls == []


def test_a_mode_the_board_has_not_is_a_sentence(machine: Machine) -> None:
    machine.nvpmodel()
    report = machine.jetson().apply(power("90W"), JETSON)
    assert report.problems == (
        "power mode 90W is not available; /etc/nvpmodel.conf has MAXN, 120W",
    )


def test_modes_are_listed_by_nvpmodel_where_its_file_is_missing(machine: Machine) -> None:
    machine.nvpmodel()
    (machine.root / "etc/nvpmodel.conf").unlink()
    assert machine.jetson().report(None, JETSON).modes == ("MAXN", "120W")


def test_a_machine_without_nvpmodel_is_described_without(machine: Machine) -> None:
    report = machine.jetson().apply(power("120W"), JETSON)
    assert report.mode is None
    assert any("not installed" in problem for problem in report.problems)


def test_a_hanging_nvpmodel_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_ASK_S", 0.2)
    machine.program("nvpmodel", "exec sleep 600")
    begun = time.monotonic()
    report = machine.jetson().report(None, JETSON)
    assert time.monotonic() - begun < 10
    assert "no answer within 0.2 s" in report.problems[0]


@pytest.mark.parametrize(
    ("name", "mode", "modes"),
    [
        ("thor-jetpack-7.0", "MAXN", ("MAXN", "120W")),
        ("thor-jetpack-7.1", "120W", ("MAXN", "120W")),
        ("thor-jetpack-7.2", "120W", ("MAXN", "120W")),
        ("orin-jetpack-6", "MODE_30W", ("MAXN", "MODE_15W", "MODE_30W", "MODE_50W")),
    ],
)
def test_a_captured_board_says_its_modes(
    tmp_path: Path, name: str, mode: str, modes: tuple[str, ...]
) -> None:
    control = PowerControl(root=unpack(name, tmp_path), run=replay(name), is_root=True)
    report = control.report(None, JETSON)
    assert (report.mode, report.modes, report.problems) == (mode, modes, ())


def test_a_captured_board_without_its_file_lists_the_same_modes(tmp_path: Path) -> None:
    control = PowerControl(root=tmp_path, run=replay("thor-jetpack-7.2"), is_root=True)
    report = control.report(None, JETSON)
    assert (report.modes, report.default_mode) == (("MAXN", "120W"), "120W")


GPU = """
case "$*" in
  *-pl*) echo "$*" >> "{folder}/calls"; echo "$4" > "{folder}/limit" ;;
  *--query-gpu=index,name*) echo "0, NVIDIA RTX PRO 4000 Blackwell, $(cat "{folder}/limit").00, 70.00, 145.00, [N/A]" ;;
esac
"""  # noqa: E501


def test_a_limit_is_set_and_read_back(machine: Machine) -> None:
    (machine.programs / "limit").write_text("145\n")
    machine.program("nvidia-smi", GPU.format(folder=machine.programs))
    report = PowerControl(is_root=True).apply(power(limit_w=100), CARD)
    assert [gpu.limit_w for gpu in report.gpus] == [100.0]
    assert report.problems == ()
    assert machine.calls == ["-i 0 -pl 100"]


@pytest.mark.parametrize("text", ["exit 9", "echo 'No devices were found'; exit 6"])
def test_an_nvidia_smi_that_fails_is_a_sentence(machine: Machine, text: str) -> None:
    machine.program("nvidia-smi", text)
    report = PowerControl(is_root=True).apply(power(limit_w=100), CARD)
    assert any("exit code" in problem for problem in report.problems)
    assert any("no GPU has" in problem for problem in report.problems)


def test_a_machine_without_a_gpu_is_not_asked(machine: Machine) -> None:
    machine.program("nvidia-smi", f"touch {machine.programs}/calls")
    machine.program("nvpmodel", f"touch {machine.programs}/calls")
    report = PowerControl().report(None, CPU)
    assert (report.mode, report.modes, report.gpus, report.problems) == (None, (), (), ())
    assert not (machine.programs / "calls").exists()
