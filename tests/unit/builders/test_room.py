"""Refusals before work that the machine has no memory or disk for, by every tool."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import room

from tests.support.tool_inputs import ARGUMENTS, TOOLS

HUGE = 10**12  # MiB
DOCS = Path(__file__).parents[3] / "docs" / "reference" / "builders.md"
ROW = re.compile(
    r"^\| `(?P<tool>\w+)` \|(?P<case>[^|]*)\| (?P<base>\d+) \|"
    r" (?:(?P<memory>[\d.]+) .|–) \| (?:(?P<disk>[\d.]+) .|–) \|",  # noqa: RUF001
    re.MULTILINE,
)
ENTRIES = sorted(
    path.stem for path in TOOLS.glob("*.py") if 'if __name__ == "__main__":' in path.read_text()
)
# Packages of the tools' own environments, which their modules import before anything is run.
ABSENT = ("ml_dtypes", "onnx", "safetensors", "safetensors.numpy")


class Absent:
    """A package that is not installed here; what is used of it is an exception."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


@pytest.fixture(autouse=True)
def without_packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    for name in ABSENT:
        monkeypatch.setitem(sys.modules, name, Absent())
    yield
    for name in set(sys.modules) - before:
        if TOOLS.samefile(Path(getattr(sys.modules[name], "__file__", None) or "/").parent):
            del sys.modules[name]  # other tests import it without these


def test_every_tool_has_inputs_here() -> None:
    assert sorted(ARGUMENTS) == ENTRIES


def run(tool: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a tool as a step does; return its exit code."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    folder.mkdir()
    monkeypatch.setattr("os._exit", leave)
    output = str(folder / "output")
    given = ARGUMENTS[tool](folder)
    match tool:
        case "reference_copy":
            more = [output]
        case "edge_llm_export":
            more = []
        case "edge_llm_quantise" | "tensorrt_llm_convert":
            more = ["--output", output, "--", "touch", str(folder / "started")]
        case _:
            more = ["--output", output]
    monkeypatch.setattr(sys, "argv", [tool, *given, *more])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def written(folder: Path) -> list[str]:
    """Files that a tool wrote."""
    return [str(path) for path in (folder / "output").rglob("*") if path.is_file()]


@pytest.mark.parametrize("tool", ENTRIES)
def test_tool_refuses_before_it_reads_weights_if_memory_is_short(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: room.Available(1))
    assert run(tool, tmp_path / "work", monkeypatch) == 4
    error = capsys.readouterr().err.splitlines()[-2:]
    assert re.fullmatch(
        r"Error: .+ takes up to \d+ MiB of memory, but 1 MiB are available", error[0]
    )
    assert error[1:] == ["  → run it on a machine with more memory, or end other programs"]
    assert written(tmp_path / "work") == []
    assert not (tmp_path / "work" / "started").exists()


@pytest.mark.parametrize("tool", ENTRIES)
def test_tool_refuses_before_it_reads_weights_if_the_disk_is_full(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    assert run(tool, tmp_path / "work", monkeypatch) == 4
    error = capsys.readouterr().err.splitlines()[-2:]
    assert re.fullmatch(
        r"Error: .+ takes up to \d+ MiB of disk, but 0 MiB are free in .+", error[0]
    )
    assert error[1:] == ["  → free disk space, or use a store on another disk"]
    assert written(tmp_path / "work") == []


def documented() -> Iterator[tuple[str, str, room.Room]]:
    """Tool, case and need of each row of the table in the documentation."""
    for row in ROW.finditer(DOCS.read_text()):
        memory, disk = (float(row[name] or 0) for name in ("memory", "disk"))
        yield row["tool"], row["case"].strip(), room.Room(int(row["base"]), memory, disk)


def needs(tool: str) -> Mapping[str, room.Room]:
    found = importlib.import_module(tool).ROOM
    return found if isinstance(found, dict) else {"": found}


def test_documentation_has_what_every_tool_takes() -> None:
    found = {(tool, case): need for tool, case, need in documented()}
    assert found == {(tool, case): need for tool in ENTRIES for case, need in needs(tool).items()}


def test_weights_are_counted_once_and_rounded_up(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(room.MIB))
    (tmp_path / "model.onnx_data").write_bytes(b"1")
    (tmp_path / "tokenizer.json").write_bytes(bytes(room.MIB))
    assert room.weights_mib(tmp_path) == 2


def test_other_forms_of_the_same_weights_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(room.MIB))
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(room.MIB))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(bytes(room.MIB))
    assert room.weights_mib(tmp_path) == 1


def test_weights_in_subfolders_count_if_there_are_no_others(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "model.gguf").write_bytes(bytes(room.MIB))
    assert room.weights_mib(tmp_path) == 1


def test_work_is_announced_with_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need = room.Room(memory_mib=1, memory=0.5, disk=0.25, disk_mib=2)
    room.require(need, "the export", tmp_path, weights_mib=8, more_memory_mib=3)
    assert capsys.readouterr().err == ("the export takes up to 8 MiB of memory and 4 MiB of disk\n")


def test_memory_that_is_not_there_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = "MemTotal: 9000000 kB\nMemFree: 1 kB\nMemAvailable: 2048000 kB\n"
    (tmp_path / "meminfo").write_text(meminfo)
    monkeypatch.setattr(room, "PROC", tmp_path)
    room.require_memory(2000, "the export")
    with pytest.raises(room.NoRoomError, match=r"the export takes up to 2001 MiB.* 2000 MiB are"):
        room.require_memory(2001, "the export")


def test_limit_of_a_container_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text(f"{1000 * room.MIB}\n")
    (tmp_path / "memory.current").write_text(f"{900 * room.MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {300 * room.MIB}\n")
    monkeypatch.setattr(room, "PROC", tmp_path)
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    with pytest.raises(room.NoRoomError) as caught:
        room.require_memory(401, "the export")
    assert f"but 400 MiB are available by the limit in {tmp_path / 'memory.max'}\n" in str(
        caught.value
    )
    assert "→ raise the memory limit of the container or service" in str(caught.value)
    room.require_memory(400, "the export")


def test_system_that_does_not_say_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PROC", tmp_path / "none")
    room.require_memory(HUGE, "the export")


def test_disk_that_is_not_there_is_refused_with_both_numbers(tmp_path: Path) -> None:
    room.require_disk(tmp_path / "not" / "yet", 1, "the export")
    with pytest.raises(room.NoRoomError, match=rf"up to {HUGE} MiB of disk, but \d+ MiB are free"):
        room.require_disk(tmp_path / "not" / "yet", HUGE, "the export")


def test_files_of_one_disk_can_be_linked(tmp_path: Path) -> None:
    assert room.links(tmp_path, tmp_path / "not" / "yet")
    assert not room.links(Path("/proc"), tmp_path)
    assert not room.links(tmp_path / "none", tmp_path)
