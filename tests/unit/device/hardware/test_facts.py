"""What is collected of a machine: commands that fail or hang, files that are missing."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from forge.device.hardware import facts
from forge.device.hardware.facts import Answer, collect, run_command


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


def test_run_command_speaks_english_reads_both_streams_and_asks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    answer = run_command(("sh", "-c", "echo $LC_ALL; echo two >&2; cat"), 5.0)
    assert answer == Answer("C\ntwo\n")
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
    assert str(tmp_path / "proc" / "meminfo") in problem


def test_an_endless_file_is_cut(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").symlink_to("/dev/zero")
    found = collect(tmp_path, only_uname)
    assert found.tegra_release == "\0" * facts._MAX_FILE_BYTES


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
    refused = Answer('Field "compute_cap" is not a valid field to query.', "exit code 2: x")
    asked, run = smi(Answer("CUDA Version: 11"), refused, Answer("Tesla P40, 22919, 470.1"))
    found = collect(tmp_path, run)
    assert (found.smi_header, found.smi_gpus) == ("CUDA Version: 11", "Tesla P40, 22919, 470.1")
    assert found.problems == ()
    assert ["compute_cap" in argv[1] for argv in asked if len(argv) > 1] == [True, False]


def test_gpus_are_known_also_where_the_header_is_not(tmp_path: Path) -> None:
    _, run = smi(Answer(problem="no answer within 10 s"), Answer("GPU, 1, 2, 3"))
    found = collect(tmp_path, run)
    assert (found.smi_header, found.smi_gpus) == (None, "GPU, 1, 2, 3")
    assert found.problems == ("nvidia-smi: no answer within 10 s",)


def test_a_driver_that_fails_is_a_problem_and_not_asked_again(tmp_path: Path) -> None:
    asked, run = smi(Answer("header"), Answer("has failed", "exit code 9: has failed"))
    found = collect(tmp_path, run)
    assert (found.smi_header, found.smi_gpus) == (None, None)
    assert found.problems == ("nvidia-smi: exit code 9: has failed",)
    assert len(asked) == 1


def test_a_machine_that_does_not_say_its_name_is_a_problem(tmp_path: Path) -> None:
    found = collect(tmp_path, lambda *_: Answer(problem="not installed"))
    assert (found.machine, found.kernel) == ("", "")
    assert found.problems == ("uname: not installed",) * 2
