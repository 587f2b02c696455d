"""The smoke benchmark as its step runs it, and the gate on what it wrote."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from forge.serving.repository.spec import read_document, read_spec, write_spec
from forge.serving.triton.containment import WRITE
from forge.smoke.result import Result, summary
from tests.support.compiler import StandIn, wanted
from tests.support.loads import outside_of_closure, watched
from tests.support.serving import environment, session_processes, tree
from tests.support.spawn import Spawn

pytestmark = [pytest.mark.slow, pytest.mark.network]


def smoke(command: str, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    module = f"forge.smoke.steps.{command}"
    with tempfile.TemporaryDirectory() as watch:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, argv)],
            env={**os.environ, **watched(Path(watch))},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert outside_of_closure(Path(watch), module) == set()
    return done


def settings(folder: Path, *, expect: str = "Paris") -> Path:
    golden = {"prompt": "What is the capital of France?", "expect": [expect], "max_tokens": 32}
    fields: dict[str, Any] = {
        "smoke": {
            "prompts": "default",
            "golden": [golden],
            "concurrency": [1, 3],
            "requests": 3,
            "runs": 2,
            "slo": {"ttft_ms": 600_000, "itl_ms": 600_000},
            "max_tokens": 8,
        },
        "serving": {"start_timeout_s": 240},
        "power": {"mode": None},
    }
    path = folder / "settings.json"
    path.write_text(json.dumps(fields))
    return path


def gate_settings(folder: Path, **limits: float) -> Path:
    nothing: dict[str, float | None] = dict.fromkeys(
        ("ttft_ms_p50", "inter_token_ms_p50", "output_tokens_per_s", "peak_rss_mib")
    )
    thresholds = nothing | {"error_rate": 0} | limits
    fields = {"smoke": {"thresholds": thresholds, "regression_pct": 400}, "baseline": None}
    path = folder / "gate-settings.json"
    path.write_text(json.dumps(fields))
    return path


@pytest.fixture(scope="module")
def measured(module_folder: Path) -> Path:
    folder = module_folder
    argv = ("--repository", tree(folder / "tree"), "--environment", environment("triton-openvino"))
    done = smoke("benchmark", *argv, "--settings", settings(folder), "--output", folder / "result")
    assert done.returncode == 0, done.stderr
    assert "golden prompts answered as expected" in done.stderr
    assert "concurrency 3: 6 requests in 2 runs, 0 errors" in done.stderr
    return folder / "result"


@pytest.mark.sample
def test_benchmark_writes_what_it_measured_on_what(measured: Path) -> None:
    found = read_document(measured / "result.json", Result)
    assert found.triton == "2.51.0"
    assert found.runtime["openvino-genai"].startswith("2026.4.1")
    assert found.machine.cores >= 1
    assert [item.concurrency for item in found.levels] == [1, 3, 4]  # and the full batch
    assert [item.request_count for item in found.levels] == [6, 6, 8]
    assert all(0 < item.output_tokens <= item.request_count * 8 for item in found.levels)
    assert [len(item.runs) for item in found.levels] == [2, 2, 2]
    assert found.lowest.goodput == found.lowest.request_throughput  # nothing is that slow
    assert found.lowest.processor_time_per_token is not None
    assert found.side_by_side is None
    assert "Paris" in found.golden[0].got
    assert found.server.cpu_s > 0
    assert summary(found).concurrency == 1
    assert [path.name for path in measured.iterdir()] == ["result.json"]


def test_benchmark_asks_the_last_bundle_in_turn_with_this_one(tmp_path: Path) -> None:
    argv = ("--repository", tree(tmp_path / "tree"), "--last", tree(tmp_path / "last"))
    done = smoke(
        *("benchmark", *argv, "--environment", environment("triton-openvino")),
        *("--settings", settings(tmp_path), "--output", tmp_path / "result"),
    )
    assert done.returncode == 0, done.stderr
    found = read_document(tmp_path / "result" / "result.json", Result).side_by_side
    assert found is not None
    assert len(found.pairs) >= 16
    assert f"{len(found.pairs)} pairs of requests" in done.stderr
    for pair in found.pairs:
        assert pair.now.processor_ms_per_token
        assert pair.before.processor_ms_per_token


def test_gate_passes_what_was_measured_within_wide_limits(measured: Path, tmp_path: Path) -> None:
    limits = gate_settings(tmp_path, ttft_ms_p50=600_000, output_tokens_per_s=0.001)
    done = smoke("gate", "--result", measured, "--settings", limits, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/gate.json").read_text())["passed"]


def test_gate_stops_what_no_machine_can_reach(measured: Path, tmp_path: Path) -> None:
    limits = gate_settings(tmp_path, output_tokens_per_s=1e9)
    done = smoke("gate", "--result", measured, "--settings", limits, "--output", tmp_path / "out")
    assert done.returncode == 6
    assert "output_tokens_per_s" in done.stderr
    assert "1e+09" in done.stdout


def test_benchmark_ends_with_6_when_the_answer_is_wrong(tmp_path: Path) -> None:
    argv = ("--repository", tree(tmp_path / "tree"), "--environment")
    done = smoke(
        *("benchmark", *argv, environment("triton-openvino")),
        *("--settings", settings(tmp_path, expect="Berlin"), "--output", tmp_path / "out"),
    )
    assert done.returncode == 6
    assert "1 of 1 golden prompts got a wrong answer" in done.stderr
    assert "Berlin" in done.stderr
    assert "The capital of France is Paris." in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_load_leaves_the_log_its_message_names(tmp_path: Path) -> None:
    made = tree(tmp_path / "tree")
    engine = made / "models" / "llm" / "1" / "engine" / "openvino_tokenizer.bin"
    engine.unlink()
    argv = ("--repository", made, "--environment", environment("triton-openvino"))
    done = smoke("benchmark", *argv, "--settings", settings(tmp_path), "--output", tmp_path / "out")
    assert done.returncode == 5
    named = re.search(r"its log: (\S+triton\.log)", done.stderr)
    assert named is not None, done.stderr
    log = Path(named.group(1))
    assert log.is_relative_to(tmp_path)
    # Triton 2.51 also logs bytes of memory that it has freed ("Failed to remove …").
    assert "openvino_tokenizer.bin" in log.read_text(errors="replace")


def test_an_interrupted_benchmark_leaves_neither_folder_nor_process(
    spawn: Spawn, tmp_path: Path
) -> None:
    before = set(Path(tempfile.gettempdir()).glob("forge-smoke-*"))
    argv: list[str | Path] = ["--repository", tree(tmp_path / "tree"), "--environment"]
    argv += [environment("triton-openvino"), "--settings", settings(tmp_path)]
    argv += ["--output", tmp_path / "out"]
    process = spawn(
        [sys.executable, "-m", "forge.smoke.steps.benchmark", *map(str, argv)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    until = time.monotonic() + 120
    while not (session := _triton_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert session_processes(session) == []
    assert not (tmp_path / "out-triton").exists()
    assert set(Path(tempfile.gettempdir()).glob("forge-smoke-*")) == before


def _triton_session(parent: int) -> int:
    """The supervisor that this process started, which leads Triton's session; 0 before that."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    for child in children.read_text().split():
        if b"supervisor.py" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return 0


def test_engine_that_devices_compile_is_compiled_here_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Jetson's compiler is not here; a process that copies stands for it."""
    compiler = StandIn(tmp_path / "compiler")
    repository = tree(tmp_path / "tree")
    spec = read_spec(repository)
    engine = repository / spec.repository / spec.model / "1" / "engine"
    names = tuple(path.name for path in sorted(engine.iterdir()))
    engine.rename(tmp_path / "source")
    engine.mkdir()
    (tmp_path / "source").rename(engine / "source")
    compile_on_device = wanted().model_copy(update={"produces": names})
    write_spec(repository, spec.model_copy(update={"compile_on_device": compile_on_device}))
    compiler.behave(writes=names)
    monkeypatch.setenv("PATH", str(compiler.folder), prepend=":")
    monkeypatch.setenv(WRITE, str(compiler.folder))
    argv: list[str | Path] = [
        "--repository",
        repository,
        "--environment",
        environment("triton-openvino"),
    ]
    argv += ["--settings", settings(tmp_path), "--output", tmp_path / "result"]
    done = smoke("benchmark", *argv)
    assert done.returncode == 0, done.stderr
    assert "compiling: layer" in done.stderr
    assert compiler.runs == 1
    assert "Paris" in read_document(tmp_path / "result" / "result.json", Result).golden[0].got

    compiler.behave(fails=True)
    done = smoke("benchmark", *argv)
    assert done.returncode == 3
    assert "no kernel for this layer" in done.stderr
