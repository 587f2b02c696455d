"""What is collected of a machine: commands that fail or hang, files that are missing."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from forge import nvidia_smi
from forge.device.hardware import facts
from forge.device.hardware.facts import Answer, collect, run_command
from forge.device.shared.signals import StopAskedError, stop_on_signals
from forge.system_files import MAX_FILE_BYTES, read_bytes
from tests.support.machines import FakeMachine, eagain


def test_collect_notes_a_hanging_nvidia_smi_and_goes_on(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(argv: Sequence[str], timeout_s: float) -> Answer:
        name = str(program) if argv[0] == "nvidia-smi" else argv[0]
        return run_command((name, *argv[1:]), timeout_s)

    facts = collect(timeout_s=0.3, run=run)
    assert facts.problems == ("nvidia-smi: no answer within 0.3 s",)
    assert facts.machine
    assert facts.meminfo


def test_run_command_reports_the_exit_code_and_last_line() -> None:
    answer = run_command(("sh", "-c", "echo one; echo two; exit 9"), 5.0)
    assert answer.problem == "exit code 9: two"


def test_run_command_that_a_signal_interrupts_ends_the_command(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    started: list[int] = []

    def interrupt() -> None:
        started.append(int(fifo.read_text()))
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(StopAskedError), stop_on_signals():
        run_command(("sh", "-c", f"echo $$ >{fifo}; exec sleep 600"), 60.0)
    sender.join()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_run_command_that_is_not_there_or_may_not_run_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(("forge-no-such-program",), 5.0) == Answer(problem="not installed")
    plain = tmp_path / "plain"
    plain.write_text("no program")
    monkeypatch.setenv("PATH", str(plain / "folder"))  # not one that can be entered
    assert run_command(("forge-no-such-program",), 5.0) == Answer(problem="not installed")
    refused = run_command((str(plain),), 5.0)
    assert (refused.output, bool(refused.problem)) == ("", True)
    assert refused.problem != "not installed"


def test_run_command_that_fails_in_silence_is_a_problem() -> None:
    assert run_command(("sh", "-c", "exit 3"), 5.0).problem == "exit code 3: no output"


def test_run_command_speaks_english_keeps_its_streams_apart_and_asks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    answer = run_command(("sh", "-c", "echo $LC_ALL; echo two >&2; cat"), 5.0)
    assert answer == Answer("C\n", errors="two\n")
    assert answer.text == "C\ntwo\n"
    assert os.environ["LC_ALL"] == "de_DE.UTF-8"


def test_run_command_keeps_a_bounded_text_of_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_MAX_OUTPUT_BYTES", 5)
    answer = run_command(("printf", r"\377abcdefgh"), 5.0)
    assert answer == Answer("\ufffdabcd")


def only_uname(argv: Sequence[str], _timeout_s: float) -> Answer:
    return Answer(f"{argv[-1]}\n") if argv[0] == "uname" else Answer(problem="not installed")


def test_a_machine_without_any_source_has_no_problem(tmp_path: Path) -> None:
    found = collect(tmp_path, only_uname)
    assert (found.machine, found.kernel) == ("-m", "-r")
    assert (found.smi_gpus, found.meminfo, found.tegra_release) == (None, None, None)
    assert (found.tensorrt_libraries, found.problems) == ((), ())


def test_files_come_as_they_are(tmp_path: Path) -> None:
    for name, content in (("proc/meminfo", b"MemTotal"), ("etc/os-release", b"\xff"),
                          ("proc/device-tree/compatible", b"nvidia,a\0nvidia,b\0")):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = collect(tmp_path, only_uname)
    assert found.meminfo == "MemTotal"
    assert found.os_release == "\ufffd"
    assert found.device_tree_compatible == "nvidia,a\0nvidia,b\0"
    assert found.problems == ()


def test_a_file_that_cannot_be_read_is_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "proc" / "meminfo").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text("Ubuntu")
    found = collect(tmp_path, only_uname)
    assert (found.meminfo, found.os_release) == (None, "Ubuntu")
    [problem] = found.problems
    assert problem == "/proc/meminfo: Is a directory"


def test_an_endless_file_is_cut(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").symlink_to("/dev/zero")
    found = collect(tmp_path, only_uname)
    assert found.tegra_release == "\0" * MAX_FILE_BYTES


def test_libraries_of_both_architectures_are_named_once_and_sorted(tmp_path: Path) -> None:
    for folder, name in (("aarch64", "libnvinfer.so.10"), ("aarch64", "libnvinfer.so.10.13.3"),
                         ("x86_64", "libnvinfer.so.10"), ("x86_64", "libnvinfer_plugin.so.10"),
                         ("x86_64", "libnvinfer.so")):  # fmt: skip
        path = tmp_path / f"usr/lib/{folder}-linux-gnu" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = collect(tmp_path, only_uname)
    assert found.tensorrt_libraries == ("libnvinfer.so.10", "libnvinfer.so.10.13.3")


def smi(header: Answer, *queries: Answer) -> tuple[list[Sequence[str]], facts.Run]:
    """The commands of nvidia-smi that were run, and what runs them."""
    left, asked = [*queries], list[Sequence[str]]()

    def run(argv: Sequence[str], timeout_s: float) -> Answer:
        if argv[0] == "uname":
            return only_uname(argv, timeout_s)
        asked.append(argv)
        return left.pop(0) if len(argv) > 1 else header

    return asked, run


def test_an_old_driver_is_asked_without_the_field_that_it_does_not_know(tmp_path: Path) -> None:
    refused = Answer('Field "compute_cap" is not a valid field to query.', "exit code 2: x", code=2)
    asked, run = smi(Answer("CUDA Version: 11"), refused, Answer("Tesla P40, 22919, 470.1"))
    found = collect(tmp_path, run)
    assert (found.smi_header, found.smi_gpus) == ("CUDA Version: 11", "Tesla P40, 22919, 470.1")
    assert found.problems == ()
    assert ["compute_cap" in argv[1] for argv in asked if len(argv) > 1] == [True, False]


def test_gpus_are_known_also_where_the_header_is_not(tmp_path: Path) -> None:
    _, run = smi(Answer(problem="no answer within 10 s"), Answer("GPU, 1, 590.1, 3.0"))
    found = collect(tmp_path, run)
    assert (found.smi_header, found.smi_gpus) == (None, "GPU, 1, 590.1, 3.0")
    assert found.problems == ("nvidia-smi: no answer within 10 s",)


def test_a_driver_that_fails_is_a_problem_and_not_asked_again(tmp_path: Path) -> None:
    asked, run = smi(Answer("header"), Answer("has failed", "exit code 9: has failed", code=9))
    found = collect(tmp_path, run)
    assert (found.smi_header, found.smi_gpus, found.smi_state) == (None, None, "failed")
    assert found.problems == ("nvidia-smi: exit code 9: has failed",)
    assert len(asked) == 1


def test_a_machine_that_does_not_say_its_name_is_a_problem(tmp_path: Path) -> None:
    found = collect(tmp_path, lambda *_: Answer(problem="not installed"))
    assert (found.machine, found.kernel) == ("", "")
    assert found.problems == ("uname: not installed",) * 2


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    made = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    return made


GOOD = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0\n"


def test_the_first_line_that_is_no_row_is_the_note(machine: FakeMachine) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 590\n"
    machine.smi(said, code=18)
    found = collect(machine.root, machine.run)
    assert (found.smi_state, found.smi_gpus) == ("failed", None)
    [problem] = found.problems
    assert problem == (
        "nvidia-smi: exit code 18: Failed to initialize NVML: Driver/library version mismatch"
        " (the driver was updated: reboot, or load its kernel modules again)"
    )


@pytest.mark.parametrize(
    ("said", "code", "complete"),
    [
        ("WARNING: infoROM is corrupted at gpu 0000:01:00.0\n", 14, True),
        ("Unable to determine the device handle for GPU1: 0000:03:00.0: GPU is lost.\n", 15, False),
        ("Unable to determine the device handle for GPU1\n", 255, False),
        ("", 0, True),
    ],
)
def test_rows_count_beside_whatever_else_it_says(
    machine: FakeMachine, said: str, code: int, *, complete: bool
) -> None:
    machine.smi(GOOD + said, code=code)
    found = collect(machine.root, machine.run)
    assert (found.smi_state, found.smi_gpus, found.smi_complete) == (
        "answered", GOOD.strip(), complete,
    )  # fmt: skip
    assert [said.strip() in problem for problem in found.problems] == ([True] if said else [])


def test_standard_error_holds_no_rows(machine: FakeMachine) -> None:
    machine.smi("", errors=GOOD)
    found = collect(machine.root, machine.run)
    assert (found.smi_state, found.smi_gpus) == ("failed", None)


def test_no_devices_is_an_answer(machine: FakeMachine) -> None:
    machine.smi("No devices were found\n", code=6)
    found = collect(machine.root, machine.run)
    assert found.smi_state == "no-devices"
    assert "exit code 6: No devices were found" in found.problems[0]


@pytest.mark.parametrize("place", ["wsl", "gke", "nixos"])
def test_it_is_found_where_it_is_kept_outside_path(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    machine.smi(GOOD)
    folder = machine.folder / place
    (machine.folder / "bin").rename(folder)
    monkeypatch.setattr(nvidia_smi.locate, "__defaults__", ((str(folder),),))
    assert collect(machine.root, machine.run).smi_gpus == GOOD.strip()


def test_libraries_beside_a_mounted_driver_are_found(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = machine.folder / "nvidia" / "bin"
    folder.mkdir(parents=True)
    (machine.folder / "nvidia" / "lib64").mkdir()
    (folder / "nvidia-smi").write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH"\n')
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setattr(nvidia_smi.locate, "__defaults__", ((str(folder),),))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/old")
    answer = run_command(("nvidia-smi",), 5.0)
    assert answer.output == f"{machine.folder}/nvidia/lib64:/old\n"


@pytest.mark.parametrize("path", ["dev/nvidia0", "dev/nvidiactl", "proc/driver/nvidia/version"])
def test_a_missing_nvidia_smi_beside_its_driver_is_said(machine: FakeMachine, path: str) -> None:
    machine.file(path)
    [problem] = collect(machine.root, machine.run).problems
    assert problem.startswith(f"nvidia-smi is not installed, and /{path.removesuffix('/version')}")


def test_a_missing_nvidia_smi_beside_a_tegra_tree_is_said(machine: FakeMachine) -> None:
    machine.file("proc/device-tree/compatible", r"nvidia,p3701-0005\0nvidia,tegra234\0")
    assert "an NVIDIA device tree is here" in collect(machine.root, machine.run).problems[0]


@pytest.mark.parametrize("path", ["dev/nvidia-uvm", "dev/nvram", "dev/null", "dev/nvidia0x"])
def test_other_device_files_are_no_gpu(machine: FakeMachine, path: str) -> None:
    machine.file(path)
    found = collect(machine.root, machine.run)
    assert (found.nvidia_signs, found.problems) == ((), ())


@pytest.mark.parametrize(("kind", "seen"), [("0x030000", True), ("0x030200", True),
                                            ("0x040300", False), ("0x060400", False)])  # fmt: skip
def test_a_gpu_on_the_bus_is_a_sign_and_its_sound_is_none(
    machine: FakeMachine, kind: str, *, seen: bool
) -> None:
    machine.pci_gpu(kind=kind)
    assert bool(collect(machine.root, machine.run).nvidia_signs) is seen


def test_the_slices_are_listed_only_where_a_gpu_is_in_mig_mode(machine: FakeMachine) -> None:
    machine.smi(GOOD, list="GPU 0")
    assert collect(machine.root, machine.run).smi_list is None
    machine.smi("A100, 40960, 590.1, 8.0, GPU-1, Enabled\n", list="GPU 0: A100 (UUID: GPU-1)\n")
    assert collect(machine.root, machine.run).smi_list == "GPU 0: A100 (UUID: GPU-1)\n"


def test_a_file_that_has_nothing_to_say_now_is_an_error_and_no_wait(tmp_path: Path) -> None:
    with eagain(tmp_path / "temp"), pytest.raises(BlockingIOError):
        read_bytes(tmp_path / "temp")
    (tmp_path / "etc").mkdir()
    with eagain(tmp_path / "etc" / "nvpmodel.conf"):
        found = collect(tmp_path, only_uname)
    assert found.nvpmodel is None
    assert "temporarily unavailable" in found.problems[0]


def test_a_masked_device_tree_is_read_where_it_is_mounted(machine: FakeMachine) -> None:
    machine.file("run/forge/device-tree/compatible", r"nvidia,tegra264\0")
    machine.file("run/forge/device-tree/model", r"Thor\0")
    found = collect(machine.root, machine.run)
    assert (found.device_tree_compatible, found.device_tree_model) == (
        "nvidia,tegra264\0",
        "Thor\0",
    )
    machine.file("proc/device-tree/model", r"Orin\0")
    assert collect(machine.root, machine.run).device_tree_model == "Orin\0"


def test_signs_of_a_chip_that_a_container_leaves_are_read(machine: FakeMachine) -> None:
    machine.file("sys/devices/soc0/family", "Tegra\n")
    machine.file("sys/devices/soc0/soc_id", "38\n")
    machine.file("sys/class/devfreq/gpu-gpc-0/cur_freq")
    found = collect(machine.root, machine.run)
    assert (found.soc, found.devfreq) == (("Tegra\n", "38\n"), ("gpu-gpc-0",))
