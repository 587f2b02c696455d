"""A real Triton that serves the real model: answers, limits, concurrency, cancellation, its end."""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forge.device.gateway.triton_backend import TritonBackend
from forge.errors import StepFailedError, UsageError
from forge.serving.sampling import Sampling
from forge.serving.triton.client import answer, stream
from forge.serving.triton.golden_prompts import probe
from forge.serving.triton.httpx_transport import triton_client
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.server import TritonServer
from forge.serving.triton.stream import Finished, Token
from tests.support.gateway import serving_at
from tests.support.serving import GOLDEN, running, session_processes, tree

pytestmark = [pytest.mark.slow, pytest.mark.network]

SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory
FRANCE = "What is the capital of France?"


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[TritonServer]:
    folder = module_folder / 'it\'s "my" $HOME & co'  # Triton starts the model by a shell
    with running(tree(folder / "tree"), folder / "work") as made:
        yield made


def ask(
    server: TritonServer, prompt: str, max_tokens: int = 32, temperature: float = 0
) -> tuple[str, str, GenerateRequest]:
    sampling = Sampling.model_construct(temperature=temperature)
    return server.url, server.spec.model, GenerateRequest(prompt, max_tokens, sampling)


@pytest.mark.sample
def test_answer_is_streamed_token_by_token(server: TritonServer) -> None:
    *tokens, end = stream(*ask(server, FRANCE))
    texts = [token.text for token in tokens if isinstance(token, Token)]
    assert len(texts) == len(tokens) > 3
    assert "Paris" in "".join(texts)
    assert isinstance(end, Finished)
    assert end.finish_reason == "stop"
    assert end.input_tokens > len(FRANCE.split())
    assert end.output_tokens >= len(texts)


def test_the_gateways_client_gives_the_same_answer(server: TritonServer) -> None:
    async def collect() -> list[Token | Finished]:
        backend, events = TritonBackend(), list[Token | Finished]()
        _, _, request = ask(server, FRANCE)
        answer = await backend.start(serving_at(server.url), request, lambda _: None)
        while not events or not isinstance(events[-1], Finished):
            events += await answer.next()
        answer.close()
        await backend.close()
        return events

    assert asyncio.run(collect()) == list(stream(*ask(server, FRANCE)))


def test_max_tokens_ends_the_answer(server: TritonServer) -> None:
    _, end = answer(*ask(server, "Tell me a long story.", 5))
    assert (end.finish_reason, end.output_tokens) == ("length", 5)


def test_default_max_tokens_is_the_profiles(server: TritonServer) -> None:
    url = f"{server.url}/v2/models/llm/generate_stream"
    with triton_client() as client:
        body = client.post(url, json={"text_input": "Tell me a long story."}, timeout=120).text
    assert '"output_tokens":16' in body


def test_answer_stops_where_the_sequence_is_full(server: TritonServer) -> None:
    """max_seq_len is 1024: a prompt of some 500 tokens leaves room for the rest only."""
    prompt = "Repeat this list again and again: " + "one two three " * 150
    _, end = answer(*ask(server, prompt, 5000))
    assert end.input_tokens + end.output_tokens <= 1024


def test_text_of_many_scripts_comes_whole(server: TritonServer) -> None:
    text, _ = answer(*ask(server, "Repeat exactly: Grüße, 你好, 🙂, Ω", 48))
    assert "\ufffd" not in text


def test_temperature_changes_the_answer(server: TritonServer) -> None:
    prompt = "Invent a name for a ship."
    cold = {answer(*ask(server, prompt, 24))[0] for _ in range(2)}
    hot = {answer(*ask(server, prompt, 24, temperature=2.0))[0] for _ in range(4)}
    assert len(cold) == 1
    assert len(hot) > 1  # equal requests do not get equal answers
    assert not hot & cold


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "temperature", "message"),
    [
        ("word " * 5000, 8, 0.0, "tokens; this model takes at most 512"),
        ("   ", 8, 0.0, "The prompt is empty"),
        ("Hi", 0, 0.0, "max_tokens must be 1 or more"),
        ("Hi", 8, 9.0, "temperature must be between 0 and 2"),
    ],
)
def test_a_bad_request_is_refused_and_the_model_goes_on(
    server: TritonServer, prompt: str, max_tokens: int, temperature: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        answer(*ask(server, prompt, max_tokens, temperature=temperature))
    assert caught.value.exit_code == 2
    assert "Paris" in answer(*ask(server, FRANCE))[0]


def test_a_model_that_is_not_served_is_named(server: TritonServer) -> None:
    with pytest.raises(StepFailedError, match="'other' is not found"):
        answer(server.url, "other", GenerateRequest(FRANCE, 8))


def test_more_requests_than_the_batch_are_all_answered(server: TritonServer) -> None:
    """max_batch_size is 4; twelve at once wait their turn and their tokens interleave."""
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: answer(*ask(server, FRANCE))[0], range(12)))
    assert all("Paris" in text for text in answers)


def test_two_streams_run_at_the_same_time(server: TritonServer) -> None:
    first = stream(*ask(server, "Count from one to one hundred.", 200))
    with contextlib.closing(first):
        assert isinstance(next(first), Token)
        assert "Paris" in answer(*ask(server, FRANCE))[0]
        assert isinstance(next(first), Token)


@pytest.mark.sample
def test_a_client_that_goes_away_stops_its_generation(server: TritonServer) -> None:
    events = stream(*ask(server, "Tell a very long story about a dragon.", 900))
    next(events)
    events.close()
    idle = _idle_after(server, 30)
    assert idle, "the server still computes 30 s after its only client left"


def _idle_after(server: TritonServer, limit_s: float) -> bool:
    """Whether CPU time stands still for a second, within the limit; 900 tokens take longer."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        before = server.usage().cpu_seconds
        time.sleep(1)
        if server.usage().cpu_seconds - before < 0.2:
            return True
    return False


def test_an_answer_that_takes_too_long_is_given_up(server: TritonServer) -> None:
    slow = GenerateRequest("Tell a story.", 900)
    with pytest.raises(StepFailedError, match="did not end its answer"):
        answer(server.url, "llm", slow, timeouts=HttpTimeouts(total=0.5))


def test_probe_asks_the_golden_prompts_of_the_spec_in_several_scripts(server: TritonServer) -> None:
    results = probe(server.url, server.spec)  # also in full batches
    assert [result.prompt for result in results] == [one["prompt"] for one in GOLDEN]
    assert all(one["expect"][0] in two.got for one, two in zip(GOLDEN, results, strict=True))


def test_server_says_what_it_is_and_used(server: TritonServer) -> None:
    used = server.usage()
    assert server.version() == "2.51.0"
    assert used.processes == 2  # tritonserver and the model's own process
    assert used.cpu_seconds > 0
    assert 100 < used.peak_rss_mib < 8000


@pytest.mark.parametrize("path", ["v2/repository/models/llm/unload", "v2/repository/index"])
def test_nobody_can_unload_the_model(server: TritonServer, path: str) -> None:
    with triton_client() as client:
        assert client.post(f"{server.url}/{path}", json={}).status_code == 403
    assert server.is_ready()


@pytest.mark.sample
def test_tree_is_only_read_and_nothing_is_left_after_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path / "tree")
    before = _files(folder)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no business of a server")
    with running(folder, tmp_path / "work") as server:
        assert b"AWS_SECRET" not in Path(f"/proc/{server.pid}/environ").read_bytes()
        session = server.pid
        assert "Paris" in answer(*ask(server, FRANCE))[0]
        # Supervisor, Triton and the stub; the stub may be forking when we look.
        assert len(session_processes(session)) >= 3
        prefix = _shared_memory_prefix(session)
        assert _shares_memory(session, prefix)
    assert not server.alive
    assert session_processes(session) == []
    assert _files(folder) == before
    assert not list(SHARED.glob(f"{prefix}*"))


def _shares_memory(session: int, prefix: str) -> bool:
    """Whether a process of the session sees shared memory of this name: /dev/shm may be its own."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            seen = entry / "root" / "dev" / "shm"
            if os.getsid(int(entry.name)) == session and list(seen.glob(f"{prefix}*")):
                return True
    return False


def _shared_memory_prefix(supervisor: int) -> str:
    words = Path(f"/proc/{supervisor}/cmdline").read_text().split("\0")
    return next(w for w in words if w.startswith("--shared-memory=")).partition("=")[2]


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
