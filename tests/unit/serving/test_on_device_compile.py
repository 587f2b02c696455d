"""Compiling on the device: the key, the room, a real child process in the compiler's place."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forge.errors import BundleError, ConfigurationError, StepFailedError
from forge.serving import on_device_compile as compiling
from forge.serving.on_device_compile import CompileJob, Compiler, command, engine_key, place
from forge.serving.triton import containment
from forge.serving.triton.containment import OFF, Containment
from tests.support.compiler import StandIn, wanted

RUNTIME = {"tensorrt": "10.16.0", "l4t": "39.2.0"}
SECONDS = 60.0


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(tmp_path / "bin")
    monkeypatch.setenv(containment.WRITE, str(made.folder))
    made.behave()
    return made


@pytest.fixture
def job(tmp_path: Path, stand_in: StandIn) -> CompileJob:
    source = tmp_path / "source"
    source.mkdir()
    (source / "answer.json").write_text("the weights")
    read = (Path(sys.base_prefix), Path(sys.prefix))
    return CompileJob(wanted(), source, RUNTIME, str(stand_in.folder), read)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def compiler(tmp_path: Path, said: list[str]) -> Compiler:
    return Compiler(tmp_path / "engines", tmp_path / "compile.log", said.append)


def idle() -> float:
    return SECONDS


def test_the_compiler_sees_the_gpu_that_will_serve(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-other")
    compiler.ensure(replace(job, variables={"CUDA_VISIBLE_DEVICES": "GPU-ours"}), idle)
    assert stand_in.gpus == ["GPU-ours"]


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


def test_relative_folders_are_those_of_the_caller(
    job: CompileJob, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    compiler = Compiler(Path("engines"), Path("compile.log"), said.append)
    engine = compiler.ensure(replace(job, path="bin"), idle)
    assert (tmp_path / "engines" / engine.name / "answer.json").read_text() == "the weights"


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


HOSTILE = """#!{python}
import json, os, pathlib, sys
target = pathlib.Path(sys.argv[4])
def tried(work):
    try:
        work()
    except OSError as error:
        return error.strerror
    return "done"
found = {{
    "environ": tried(pathlib.Path("/proc/{agent}/environ").read_bytes),
    "memory": tried(lambda: open("/proc/{agent}/mem", "rb").close()),
    "secret": tried(pathlib.Path("{secret}").read_bytes),
    "change": tried(lambda: pathlib.Path("{secret}").write_text("changed")),
    "source": tried(lambda: pathlib.Path(sys.argv[2], "answer.json").write_text("changed")),
    "link": tried(lambda: os.link("{secret}", target / "linked")),
    "home": tried(lambda: pathlib.Path.home().joinpath("x").write_text("mine")),
    "temporary": tried(lambda: pathlib.Path(os.environ["TMPDIR"], "x").write_text("mine")),
    "here": tried(lambda: pathlib.Path("x").write_text("mine")),
    "read": tried(pathlib.Path(sys.argv[2], "answer.json").read_bytes),
}}
(target / "answer.json").write_text(json.dumps(found))
"""
REFUSED = ("environ", "memory", "secret", "change", "source", "link")


def attempts(compiler: Compiler, job: CompileJob, stand_in: StandIn, folder: Path) -> set[str]:
    """Return what a hostile compiler got; it runs as the one that a bundle names."""
    (folder / "secret").write_text("the key")
    program = stand_in.folder / "engine-compiler"
    python = Path(sys.executable).resolve()
    text = HOSTILE.format(python=python, agent=os.getpid(), secret=folder / "secret")
    program.write_text(text)
    found = json.loads((compiler.ensure(job, idle) / "answer.json").read_text())
    return {name for name, came in found.items() if came == "done"}


def test_compiler_opens_only_what_it_needs(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, tmp_path: Path, said: list[str]
) -> None:
    if not containment.available().has("files"):
        pytest.skip(containment.available().missing["files"])
    got = attempts(compiler, job, stand_in, tmp_path)
    assert got == {"home", "temporary", "here", "read"}
    assert (tmp_path / "secret").read_text() == "the key"
    assert [path.name for path in (tmp_path / "engines").iterdir()] == [
        engine_key(job.wanted, RUNTIME)
    ]
    assert not any("not contained" in line for line in said)


def test_compiler_runs_without_what_a_machine_lacks_and_it_is_said(
    compiler: Compiler,
    job: CompileJob,
    stand_in: StandIn,
    tmp_path: Path,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OFF, "files")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "secret" in attempts(compiler, job, stand_in, tmp_path)
    assert f"the compiler is not contained, it can open any file: {OFF}=files" in said


def test_containment_that_cannot_be_put_on_is_tried_again_and_not_the_bundles_fault(
    compiler: Compiler, job: CompileJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    broken = ["sh", "-c", f"echo '{containment.NOT_PUT_ON}: no'; exit {containment.FAILED}"]
    monkeypatch.setattr(containment, "contained", lambda *_: broken)
    monkeypatch.setattr(containment, "forget", lambda: asked.append(None))
    with pytest.raises(StepFailedError, match="could not be contained"):
        compiler.ensure(job, idle)
    assert asked == [None]
    monkeypatch.setattr(containment, "contained", lambda *_: ["sh", "-c", "exit 125"])
    with pytest.raises(BundleError, match="exited with code 125"):
        compiler.ensure(job, idle)


@pytest.mark.parametrize("made", ["ln -s {secret}", "ln -s {folder}", "mkfifo"])
def test_engine_holds_no_link_to_what_the_compiler_cannot_open(
    compiler: Compiler, job: CompileJob, stand_in: StandIn, tmp_path: Path, made: str
) -> None:
    """The agent links the engine's files into the slot, where the model reads them."""
    (tmp_path / "secret").write_text("the key")
    act = made.format(secret=tmp_path / "secret", folder=tmp_path)
    program = stand_in.folder / "engine-compiler"
    program.write_text(f'#!/bin/sh\ntouch "$4/answer.json"\n{act} "$4/odd"\n')
    with pytest.raises(BundleError, match="wrote 'odd', neither a file nor a folder"):
        compiler.ensure(job, idle)
    assert list((tmp_path / "engines").iterdir()) == []


def test_compiler_reads_the_libraries_and_plugins_that_variables_name(
    compiler: Compiler, job: CompileJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs: list[containment.Needs] = []

    def contained(argv: list[str], given: containment.Needs, _found: Containment) -> list[str]:
        needs.append(given)
        return argv

    monkeypatch.setattr(containment, "contained", contained)
    monkeypatch.setenv("EDGELLM_PLUGIN_PATH", "/opt/nv/plugin.so")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/one:/opt/two:relative")
    monkeypatch.setenv("HOME", "/home/agent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/etc/aws")
    compiler.ensure(job, idle)
    read = {str(path) for path in needs[0].read}
    assert read >= {"/opt/nv/plugin.so", "/opt/one", "/opt/two"}
    assert read.isdisjoint({"/home/agent", "/etc/aws", "relative", "/"})


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
