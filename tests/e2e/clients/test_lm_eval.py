"""lm-evaluation-harness, unchanged, on two small tasks of data that this file makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.clients.conftest import Device
from tests.support.clients import CLIENTS, environment, settings
from tests.support.serving import ROOT, checkpoint

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

CAPITALS = {
    "France": ("Paris", "London"), "Italy": ("Rome", "Berlin"), "Spain": ("Madrid", "Tokyo"),
    "Germany": ("Berlin", "Rome"), "Japan": ("Tokyo", "Madrid"), "England": ("London", "Paris"),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's tokenizer as Hugging Face has it, read from the same GGUF file."""
    target = tmp_path_factory.mktemp("tokenizer") / "smollm2"
    [gguf] = checkpoint().glob("*.gguf")
    python = environment("lm-eval") / "bin" / "python"
    program = CLIENTS / "lm-eval" / "tokenizer_of_gguf.py"
    tools = ROOT / "forge" / "builders" / "tools"
    argv = [str(python), str(program), str(gguf), str(target), str(tools)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=settings())
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {"country": country, "choices": list(choices), "label": 0}
        for country, choices in CAPITALS.items()
    ]
    data = folder / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
    }
    right = {"aggregation": "mean", "higher_is_better": True}
    choice = {
        "task": "capitals_choice",
        "output_type": "multiple_choice",
        "doc_to_text": "The capital of {{country}} is",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", **right}],
    }
    regex = {"function": "regex", "regex_pattern": "(?:is|was) ([A-Z][a-z]+)"}
    said = {
        "task": "capitals_said",
        "output_type": "generate_until",
        "doc_to_text": "What is the capital of {{country}}?",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 24, "temperature": 0.0},
        "metric_list": [{"metric": "exact_match", **right}],
        "filter_list": [{"name": "capital", "filter": [regex, {"function": "take_first"}]}],
    }
    for task in (choice, said):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump({**common, **task}))
    return folder


def evaluated(tasks: Path, home: Path, task: str, kind: str, *more: str, **given: str) -> Any:
    """The results of a task."""
    output = home / task
    arguments = ",".join(f"{name}={value}" for name, value in given.items())
    argv = [str(environment("lm-eval") / "bin" / "lm_eval"), "--model", kind]
    argv += ["--model_args", arguments, "--tasks", task, "--include_path", str(tasks)]
    argv += ["--output_path", str(output), *more]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=240,
        env=settings(HF_HOME=str(home / "hf")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [found] = output.rglob("results_*.json")
    return json.loads(found.read_text())["results"][task]


def test_a_chat_task_is_answered(device: Device, tasks: Path, tmp_path: Path) -> None:
    found = evaluated(
        tasks, tmp_path, "capitals_said", "local-chat-completions", "--apply_chat_template",
        model="llm", base_url=f"{device.url}/v1/chat/completions", num_concurrent="2",
    )  # fmt: skip
    assert found["exact_match,capital"] >= 0.6


def test_loglikelihoods_find_the_capitals(
    device: Device, tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    found = evaluated(
        tasks, tmp_path, "capitals_choice", "local-completions",
        model="llm", base_url=f"{device.url}/v1/completions", num_concurrent="1",
        tokenizer_backend="huggingface", tokenizer=str(tokenizer), max_length="512",
    )  # fmt: skip
    assert found["acc,none"] >= 0.8  # of two choices; guessing gives 0.5


def test_the_device_tokenizes_as_the_tokenizer_of_the_harness(
    device: Device, tokenizer: Path
) -> None:
    text = "The capital of France is 42 🎉 naïve 한국어"
    program = (
        "import sys, json; from tokenizers import Tokenizer;"
        "print(json.dumps(Tokenizer.from_file(sys.argv[1]).encode(sys.argv[2]).ids))"
    )
    python = environment("lm-eval") / "bin" / "python"
    argv = [str(python), "-c", program, str(tokenizer / "tokenizer.json"), text]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=settings())
    body = {"model": "llm", "prompt": text}
    answer = httpx.post(f"{device.url}/tokenize", json=body, trust_env=False)
    assert answer.json()["tokens"] == json.loads(done.stdout)
