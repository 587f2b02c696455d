"""Compiling on the device: the key, the room, a real child process in the compiler's place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, StepFailedError
from forge.serving import on_device_compile as compiling
from forge.serving.on_device_compile import CompileJob, Compiler, command, engine_key, place
from tests.support.compiler import StandIn, wanted

RUNTIME = {"tensorrt": "10.16.0", "l4t": "39.2.0"}
SECONDS = 60.0


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    made = StandIn(tmp_path / "bin")
    made.behave()
    return made


@pytest.fixture
def job(tmp_path: Path, stand_in: StandIn) -> CompileJob:
    source = tmp_path / "source"
    source.mkdir()
    (source / "answer.json").write_text("the weights")
    return CompileJob(wanted(), source, RUNTIME, str(stand_in.folder))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def compiler(tmp_path: Path, said: list[str]) -> Compiler:
    return Compiler(tmp_path / "engines", tmp_path / "compile.log", said.append)


def idle() -> float:
    return SECONDS


def test_key_says_source_command_and_runtime_and_nothing_else() -> None:
    key = engine_key(wanted(), RUNTIME)
    assert engine_key(wanted(memory_mib=9), RUNTIME) == key
    assert engine_key(wanted(digest="b" * 64), RUNTIME) != key
    assert engine_key(wanted(), RUNTIME | {"tensorrt": "10.13.3"}) != key
    longer = wanted().model_copy(update={"arguments": ("--from", "${source}", "--len", "9")})
    assert engine_key(longer, RUNTIME) != key


def test_command_fills_in_whole_words_only() -> None:
    strange = wanted().model_copy(update={"arguments": ("${source}", "x${engine}", "$(id)")})
    argv = command(strange, "/bin/tool", Path("/s"), Path("/e"))
    assert argv == ["/bin/tool", "/s", "x${engine}", "$(id)"]


def test_engine_is_compiled_once_and_found_again(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, said: list[str]
) -> None:
    first = compiler.ensure(job, idle)
    second = compiler.ensure(job, idle)
    assert first == second
    assert stand_in.runs == 1
    assert (first / "answer.json").read_text() == "the weights"
    assert "compiling: layer 2 of 2" in said
    assert said[-1].endswith(" is compiled already")


def test_another_runtime_compiles_anew(
    compiler: Compiler, job: CompileJob, stand_in: StandIn
) -> None:
    first = compiler.ensure(job, idle)
    second = compiler.ensure(replace(job, runtime={"tensorrt": "10.13.3"}), idle)
    assert first != second
    assert stand_in.runs == 2


def test_compiler_that_fails_is_the_bundles_fault_and_leaves_nothing(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.behave(fails=True)
    with pytest.raises(ConfigurationError, match="no kernel for this layer"):
        compiler.ensure(job, idle)
    assert list((tmp_path / "engines").iterdir()) == []


def test_compiler_that_writes_no_engine_is_found_out(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.behave(writes=())
    with pytest.raises(ConfigurationError, match=r"did not write answer\.json"):
        compiler.ensure(job, idle)
    assert list((tmp_path / "engines").iterdir()) == []


def test_compiler_that_hangs_is_ended_in_time(
    compiler: Compiler, job: CompileJob, stand_in: StandIn
) -> None:
    stand_in.behave(layers=1, pause_s=600)
    begin = time.monotonic()
    with pytest.raises(ConfigurationError, match="timed out after"):
        compiler.ensure(replace(job, wanted=wanted(timeout_s=1.5)), idle)
    assert time.monotonic() - begin < 30
    assert _processes(stand_in) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda job: replace(job, path="/nowhere"), "is not installed on this device"),
        (lambda job: replace(job, wanted=wanted(memory_mib=2**40)), "MiB of memory"),
        (
            lambda job: replace(job, wanted=wanted().model_copy(update={"disk_mib": 2**40})),
            "MiB of disk",
        ),
    ],
    ids=["no compiler", "too little memory", "too little disk"],
)
def test_what_the_device_lacks_is_not_the_bundles_fault(
    compiler: Compiler,
    job: CompileJob,
    stand_in: StandIn,
    change: Callable[[CompileJob], CompileJob],
    says: str,
) -> None:
    with pytest.raises(StepFailedError, match=says):
        compiler.ensure(change(job), idle)
    assert stand_in.runs == 0


def test_somebody_is_called_while_it_compiles(
    compiler: Compiler, job: CompileJob, stand_in: StandIn
) -> None:
    stand_in.behave(layers=1, pause_s=1.5)
    calls: list[float] = []

    def on_poll() -> float:
        calls.append(time.monotonic())
        return 0.2

    compiler.ensure(job, on_poll)
    assert len(calls) >= 3


def test_compiler_sees_no_credentials(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CUDA_MODULE_LOADING", "LAZY")
    program = stand_in.folder / "engine-compiler"
    program.write_text('#!/bin/sh\nenv > "$4/answer.json"\n')
    seen = (compiler.ensure(job, idle) / "answer.json").read_text()
    assert "CUDA_MODULE_LOADING=LAZY" in seen
    assert "secret" not in seen


def test_engine_of_another_release_of_the_machine_is_not_the_slots(
    compiler: Compiler, job: CompileJob, tmp_path: Path
) -> None:
    """A JetPack upgrade keeps the slot's files: their engine no longer loads."""
    slot = tmp_path / "slot" / "engine"
    slot.parent.mkdir()
    place(compiler.ensure(job, idle), slot)
    assert compiling.holds(slot, engine_key(job.wanted, RUNTIME))
    assert not compiling.holds(slot, engine_key(job.wanted, RUNTIME | {"l4t": "39.2.1"}))
    (slot / compiling.MARK).unlink()
    (slot / compiling.MARK).write_text("[]")
    assert not compiling.holds(slot, engine_key(job.wanted, RUNTIME))


def test_slot_gets_links_and_loses_nothing_when_the_cache_is_pruned(
    compiler: Compiler, job: CompileJob, tmp_path: Path
) -> None:
    engine = compiler.ensure(job, idle)
    slot = tmp_path / "slot" / "engine"
    slot.parent.mkdir()
    place(engine, slot)
    assert (slot / "answer.json").stat().st_ino == (engine / "answer.json").stat().st_ino
    os.utime(engine, (1, 1))
    for number in range(compiling._KEPT_ENGINES):
        compiler.ensure(replace(job, wanted=wanted(digest=f"{number}" * 64)), idle)
    assert not engine.exists()
    assert (slot / "answer.json").read_text() == "the weights"
    place(compiler.ensure(job, idle), slot)
    assert [path.name for path in slot.parent.iterdir()] == ["engine"]


def _processes(stand_in: StandIn) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(stand_in.folder).encode() in words:
            found.append(int(entry.name))
    return found
