"""What is recorded while a machine is asked, and how a capture answers in its place."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from forge.device.hardware.capture import Capture, Recorder, hardware_of
from forge.device.hardware.facts import Answer
from forge.system_files import RootFiles

QUERY = "--query-gpu=name,memory.total,driver_version,compute_cap,uuid,mig.mode.current"
OLD = "--query-gpu=name,memory.total,driver_version,uuid"
FORMAT = "--format=csv,noheader,nounits"


def recorder(root: Path, *answers: Answer) -> Recorder:
    left = [*answers]

    def run(_argv: Sequence[str], _timeout_s: float) -> Answer:
        return left.pop(0)

    return Recorder(RootFiles(root), run)


def test_the_first_answer_to_each_question_is_kept(tmp_path: Path) -> None:
    asked = recorder(tmp_path, Answer("1"), Answer("2"))
    file = tmp_path / "a"
    for text in ("1", "2"):
        file.write_text(text)
        assert asked.read("a") == text.encode()
        assert asked.run(("p",), 1.0).output == text
    file.unlink()
    file.mkdir()
    with pytest.raises(IsADirectoryError):
        asked.read("a")
    found = asked.capture()
    assert (found.files, found.unreadable) == ({"a": b"1"}, {})
    assert found.answers == {("p",): Answer("1")}


def test_what_is_missing_leaves_nothing_and_what_fails_its_errno(tmp_path: Path) -> None:
    asked = recorder(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in ("folder", "none", "file/below"):
        with pytest.raises(OSError, match="Errno"):
            asked.read(path)
    with pytest.raises(NotADirectoryError):
        asked.names("file", "*")
    assert asked.capture() == Capture(unreadable={"folder": errno.EISDIR})


def test_only_the_names_that_were_looked_for_are_kept(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "mapper"):
        (tmp_path / "dev" / name).mkdir(parents=True)
    asked = recorder(tmp_path)
    assert asked.names("dev", "nvidia*") == ["nvidia0", "nvidiactl"]
    found = asked.capture()
    assert found.listed == {"dev/nvidia0", "dev/nvidiactl"}
    assert found.names("dev", "*") == ["nvidia0", "nvidiactl"]


def test_a_pci_device_that_does_not_say_whose_it_is_stays(tmp_path: Path) -> None:
    for name, vendor in (("0000:01:00.0", ""), ("0000:02:00.0", "0x8086\n")):
        device = tmp_path / "sys/bus/pci/devices" / name
        device.mkdir(parents=True)
        (device / "class").write_text("0x030000\n")
        if vendor:
            (device / "vendor").write_text(vendor)
        else:
            (device / "vendor").mkdir()  # cannot be read
    asked = recorder(tmp_path)
    asked.read_further()
    folder = "sys/bus/pci/devices/0000:01:00.0"
    assert asked.capture() == Capture(
        unreadable={f"{folder}/vendor": errno.EISDIR}, listed=frozenset({folder})
    )


def test_a_capture_fails_as_the_machine_did() -> None:
    found = Capture({"a/b": b"xyz"}, {"a/c": errno.EACCES, "d": errno.EIO}, frozenset({"a/e/f"}))
    assert found.read("a/b", 2) == b"xy"
    with pytest.raises(PermissionError, match="/a/c"):
        found.read("a/c")
    with pytest.raises(FileNotFoundError):
        found.read("a/e")
    assert found.names("a", "*") == ["b", "c", "e"]
    assert found.names("none", "*") == []
    with pytest.raises(OSError, match="Input/output error"):
        found.names("d", "*")


def test_a_program_that_was_never_asked_is_not_installed() -> None:
    missing = Capture(answers={("nvidia-smi",): Answer(problem="not installed")})
    for capture in (Capture(), missing):
        assert capture.run(("nvidia-smi", "-L")) == Answer(problem="not installed")
    here = Capture(answers={("nvidia-smi",): Answer("table")})
    assert "no answer of 'nvidia-smi -L'" in here.run(("nvidia-smi", "-L")).problem


def test_a_capture_from_before_a_new_query_is_read_by_the_query_that_all_drivers_know() -> None:
    """As if a later version of Forge asked for fields that this capture was not asked for."""
    row = Answer("NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, GPU-1\n")
    found = hardware_of(Capture(answers={("nvidia-smi", OLD, FORMAT): row}))
    [gpu] = found.gpus
    assert (gpu.name, gpu.memory_mib, gpu.uuid) == (
        "NVIDIA RTX PRO 4000 Blackwell", 24467, "GPU-1",
    )  # fmt: skip
    assert found.nvidia == "present"
