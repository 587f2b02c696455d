"""guidellm and AIPerf, unchanged, for a few requests each."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.clients.conftest import Device
from tests.e2e.clients.test_lm_eval import tokenizer
from tests.support import caches
from tests.support.clients import CLIENTS, environment, settings

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

__all__ = ["tokenizer"]
PROMPTS = ("What is the capital of France?", "Tell me about the sea.", "Count to ten.", "Hello!")


def test_guidellm_completes_all_of_its_requests(device: Device, tmp_path: Path) -> None:
    torch = sorted(caches.ENVIRONMENTS.glob("transformers-*/lib/python*/site-packages/torch"))
    if not torch:
        pytest.skip("guidellm requires torch: make the environment of dockerfiles/transformers")
    data, output = tmp_path / "prompts.jsonl", tmp_path / "report.json"
    data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS * 6))
    program = CLIENTS / "guidellm" / "run_guidellm.py"
    argv = [str(environment("guidellm") / "bin" / "python"), str(program), str(torch[-1].parent)]
    argv += ["run", "--disable-console"]
    argv += ["--backend", f"kind=openai_http,target={device.url},model=llm"]
    argv += ["--profile", "kind=concurrent,streams=2"]
    argv += ["--constraint", "kind=max_requests,count=8"]
    argv += ["--data", f"kind=json_file,path={data}", "--output", f"kind=json,path={output}"]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=240,
        env=settings(HF_HOME=str(tmp_path / "hf")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [benchmark] = json.loads(output.read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert totals["successful"] == 8
    assert totals["errored"] == 0


def test_aiperf_measures_what_the_device_measures(
    device: Device, tokenizer: Path, tmp_path: Path
) -> None:
    inputs = tmp_path / "prompts.jsonl"
    inputs.write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in PROMPTS * 2))
    # With that variable it takes the tokenizer's folder for the name of a repository.
    given = settings(HF_HOME=str(tmp_path / "hf"))
    online = {name: value for name, value in given.items() if name != "HF_HUB_OFFLINE"}
    argv = [
        str(environment("aiperf") / "bin" / "aiperf"), "profile",
        "--model", "llm", "--url", device.url, "--endpoint-type", "chat", "--streaming",
        "--input-file", str(inputs), "--custom-dataset-type", "single-turn",
        "--tokenizer", str(tokenizer), "--concurrency", "2", "--request-count", "8",
        "--extra-inputs", "max_tokens:16", "--workers-max", "1", "--record-processors", "1",
        "--no-gpu-telemetry", "--no-server-metrics", "--ui", "none",
        "--output-artifact-dir", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=240,
        env=online,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = json.loads((tmp_path / "out" / "profile_export_aiperf.json").read_text())
    assert found["request_count"]["avg"] == 8
    assert found["time_to_first_token"]["avg"] > 0
    assert found["inter_token_latency"]["avg"] > 0
