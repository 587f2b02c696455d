"""The Edge-LLM and TensorRT-LLM models under the real Triton; only the CUDA runtime is stood in.

Nobody has run them on a GPU: what is tested is Triton's side of the model and the calls it makes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forge.errors import StepFailedError, UsageError
from forge.serving.repository.render import Runtime, render
from forge.serving.repository.spec import read_spec
from forge.serving.sampling import Sampling
from forge.serving.triton.client import answer, stream
from forge.serving.triton.containment import WRITE
from forge.serving.triton.httpx_transport import triton_client
from forge.serving.triton.request import GenerateRequest, InputFormat
from forge.serving.triton.server import TritonServer
from forge.serving.triton.stream import Finished, Token
from tests.support import runtimes
from tests.support.serving import LOCK, render_settings, triton

pytestmark = [pytest.mark.slow, pytest.mark.network]

MODES = {
    "edge-llm": {"builder": "edge-llm", "runtime": {"tensorrt-edgellm": "0.11.0"}},
    "trtllm-engine": {"builder": "tensorrt-llm", "runtime": {"tensorrt": "10"}, "mode": "engine"},
    "trtllm-llmapi": {
        "builder": "tensorrt-llm",
        "runtime": {"tensorrt-llm": "1.2.1"},
        "mode": "llmapi",
    },
}


class Served:
    """One rendered model under a running Triton, and what its runtime noted."""

    def __init__(self, server: TritonServer, engine: Path) -> None:
        self.server = server
        self.engine = engine

    def ask(
        self,
        prompt: str,
        max_tokens: int = 32,
        temperature: float = 0,
        input_format: InputFormat = "user",
    ) -> tuple[str, str, GenerateRequest]:
        sampling = Sampling(temperature=temperature)
        request = GenerateRequest(prompt, max_tokens, sampling, input_format)
        return self.server.url, "llm", request

    def notes(self, event: str) -> list[dict[str, Any]]:
        lines = (self.engine / "log.jsonl").read_text().splitlines()
        return [note for note in map(json.loads, lines) if note["event"] == event]


def rendered(folder: Path, facts: dict[str, Any]) -> Path:
    engine = folder / "engine"
    (engine / "tokenizer").mkdir(parents=True)
    (engine / "engine.json").write_text(json.dumps(facts))
    (engine / "llm.engine").write_bytes(b"")
    runtimes.write_tokenizer(engine / "tokenizer" if facts.get("mode") == "engine" else engine)
    tree = folder / "tree"
    settings = render_settings(engine__max_batch_size=2, serving__kv_cache_fraction=0.4)
    spec = render(engine, settings, Runtime(LOCK), tree)
    runtimes.write(spec.builder, tree / "models" / "llm" / "1")
    return tree


@pytest.fixture(scope="module", params=MODES)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    tree = rendered(folder, MODES[request.param])
    with pytest.MonkeyPatch.context() as writing:
        writing.setenv(WRITE, str(tree))  # its runtime logs beside the engine
        server = TritonServer.start(tree, read_spec(tree), triton(), work=folder / "work")
    with server:
        server.wait_ready(120)
        yield Served(server, tree / "models" / "llm" / "1" / "engine")
    assert Served(server, tree / "models" / "llm" / "1" / "engine").notes("unloaded")


@pytest.mark.sample
def test_answer_is_streamed_and_counted(served: Served) -> None:
    *tokens, end = stream(*served.ask("What is the capital of France?"))
    texts = [token.text for token in tokens if isinstance(token, Token)]
    assert texts == ["The ", "capital ", "is ", "Paris", "."]
    assert isinstance(end, Finished)
    assert (end.finish_reason, end.output_tokens) == ("stop", 5)
    rendered = "<user> What is the capital of France? <assistant>"  # a token for each byte
    assert end.input_tokens in {7, len(rendered)}  # the stand-in of Edge-LLM says 7


def test_max_tokens_ends_the_answer(served: Served) -> None:
    _, end = answer(*served.ask("What is the capital of France?", 3))
    assert (end.finish_reason, end.output_tokens) == ("length", 3)


def test_temperature_zero_is_greedy(served: Served) -> None:
    answer(*served.ask("France?", 1))
    assert served.notes("asked")[-1]["top_k"] == 1
    answer(*served.ask("France?", 1, 0.8))
    assert served.notes("asked")[-1]["top_k"] != 1


def test_two_sequences_run_at_once_and_a_third_waits(served: Served) -> None:
    begin = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: answer(*served.ask("a long story", 20)), range(3)))
    seconds = time.monotonic() - begin
    assert [end.output_tokens for _, end in answers] == [20, 20, 20]
    assert seconds >= 2 * 20 * 0.05  # two at once, then the third


def test_client_that_goes_away_frees_its_place(served: Served) -> None:
    freed = "closed" if served.server.spec.builder == "edge-llm" else "aborted"
    before = len(served.notes(freed)) if (served.engine / "log.jsonl").exists() else 0
    url = f"{served.server.url}/v2/models/llm/generate_stream"
    body = {"text_input": "a long story", "max_tokens": 900}
    with triton_client() as client, client.stream("POST", url, json=body, timeout=30) as response:
        next(response.iter_lines())
    until = time.monotonic() + 20
    while len(served.notes(freed)) <= before and time.monotonic() < until:
        time.sleep(0.1)
    assert len(served.notes(freed)) > before


def test_all_turns_of_a_conversation_reach_the_runtime(served: Served) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "France?"},
    ]
    ask = served.ask(json.dumps(turns), input_format="messages")
    assert answer(*ask)[0].startswith("The capital")
    [*_, note] = served.notes("prompt")
    if served.server.spec.builder == "edge-llm":  # which applies the template itself
        assert note["prompt"] == turns
    else:
        assert note["prompt"] == "<system> Be brief. <user> France? <assistant>"


def test_raw_text_gets_no_template_or_is_refused(served: Served) -> None:
    ask = served.ask("The capital of", input_format="raw")
    if served.server.spec.builder == "edge-llm":
        with pytest.raises(UsageError, match="takes messages only"):
            answer(*ask)
        return
    answer(*ask)
    assert served.notes("prompt")[-1]["prompt"] == "The capital of"


def test_turns_that_the_template_refuses_are_a_bad_request(served: Served) -> None:
    if served.server.spec.builder == "edge-llm":
        pytest.skip("its runtime applies the template and does not say what was wrong")
    turns = [{"role": "assistant", "content": "Hi"}]
    with pytest.raises(UsageError, match="refuses the messages: roles must alternate"):
        answer(*served.ask(json.dumps(turns), input_format="messages"))


def test_an_engine_that_fails_is_not_the_askers_fault(served: Served) -> None:
    if served.server.spec.builder != "edge-llm":
        pytest.skip("its stand-in does not fail")
    with pytest.raises(StepFailedError, match="ended the answer without a reason"):
        answer(*served.ask("refuse"))


@pytest.mark.parametrize("prompt", ["   ", "word " * 2000], ids=["empty", "too long"])
def test_bad_request_is_refused_and_the_next_one_served(served: Served, prompt: str) -> None:
    if served.server.spec.builder == "edge-llm" and prompt.strip():
        prompt = "refuse " + prompt  # its runtime, not the model, knows how long a prompt is
    with pytest.raises(UsageError):
        answer(*served.ask(prompt))
    assert answer(*served.ask("France?"))[0].startswith("The capital")


def test_runtime_is_started_with_the_profiles_limits(served: Served) -> None:
    [loaded] = served.notes("loaded")
    spec = served.server.spec
    if spec.builder == "edge-llm":
        assert loaded["lengths"] == [spec.max_input_len, spec.max_seq_len, 2]
        assert loaded["batching"] is True
        assert loaded["model_dir"] == ""
    else:
        assert loaded["fraction"] == 0.4
        mode = json.loads((served.engine / "engine.json").read_text())["mode"]
        assert loaded["kind"] == {"engine": "engine", "llmapi": "checkpoint"}[mode]


def test_export_that_was_not_compiled_is_refused_with_the_reason(tmp_path: Path) -> None:
    tree = rendered(tmp_path, MODES["edge-llm"])
    (tree / "models" / "llm" / "1" / "engine" / "llm.engine").unlink()
    with (
        TritonServer.start(tree, read_spec(tree), triton(), work=tmp_path / "work") as server,
        pytest.raises(StepFailedError, match="the bundle brings only the export"),
    ):
        server.wait_ready(60)


def test_tokens_are_scored_by_their_logits_or_refused(served: Served) -> None:
    ask = served.ask("[3, 4, 9, 10]", input_format="tokens")
    if MODES["trtllm-llmapi"]["runtime"] != served.server.spec.runtime:
        with pytest.raises(UsageError, match="does not score tokens"):
            answer(*ask)
        return
    text, end = answer(*ask)
    likely = math.exp(3) / (math.exp(3) + 299)
    unlikely = 1 / (math.exp(3) + 299)
    expected = [math.log(one) for one in (likely, unlikely, likely)]
    assert json.loads(text) == pytest.approx(expected, abs=1e-6)
    assert end.finish_reason == "scored"
    with pytest.raises(UsageError):
        answer(*served.ask(json.dumps([1] * 2000), input_format="tokens"))


def test_bundle_of_another_release_than_that_of_the_image_is_refused(tmp_path: Path) -> None:
    tree = rendered(tmp_path, MODES["trtllm-llmapi"] | {"runtime": {"tensorrt-llm": "1.3.0"}})
    with (
        TritonServer.start(tree, read_spec(tree), triton(), work=tmp_path / "work") as server,
        pytest.raises(StepFailedError, match=r"requires TensorRT-LLM 1\.3\.0, but this image has"),
    ):
        server.wait_ready(60)
