"""The gateway over a real Triton whose model does as it is told: errors, limits, keys, the queue.

The client is OpenAI's or httpx over real sockets; the real language model is in
test_gateway_openai.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai import OpenAI

from forge.device.gateway.admission import Admission
from forge.device.gateway.api_keys import ApiKeys, Keys
from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from forge.serving.triton.server import TritonServer
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.plain_model import plain_tree
from tests.support.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.network]

PLACES = 4


@dataclass
class Served:
    """A gateway, and what of it a test may turn."""

    url: str
    limit: ConcurrencyLimit
    admission: Admission

    def ask(self, *, stream: bool = False, **wanted: Any) -> httpx.Response:
        body = {"prompt": json.dumps(wanted), "stream": stream}
        return httpx.post(f"{self.url}/v1/inference", json=body, trust_env=False, timeout=60)

    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("plain")
    with running(plain_tree(folder / "tree"), folder / "work") as server:
        yield server


@contextlib.contextmanager
def gateway(
    triton: TritonServer, config: GatewayConfig | None = None, keys: Keys | None = None
) -> Iterator[Served]:
    upstream, limit = Upstream(), ConcurrencyLimit(PLACES, "the batch of the bundle")
    app = create_app(upstream, TritonBackend(), Nothing, limit, config, keys)
    with listening(app) as url:
        upstream.set(serving_at(triton.url))
        yield Served(url, limit, app.state.admission)


@pytest.fixture(scope="module")
def served(triton: TritonServer) -> Iterator[Served]:
    with gateway(triton) as made:
        yield made


def user(**wanted: Any) -> Any:
    return [{"role": "user", "content": json.dumps(wanted)}]


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


CODES = ["INTERNAL", "INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "UNKNOWN"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", CODES)
def test_a_model_that_fails_before_its_first_token_is_the_devices_fault(
    served: Served, code: str, *, stream: bool
) -> None:
    """Triton itself says 400 to all of them."""
    response = served.ask(words=0, error="out of memory", code=code, stream=stream)
    assert response.status_code == 502
    assert "out of memory" in response.json()["error"]["message"]
    messages = user(words=0, error="out of memory", code=code)
    with served.openai() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="llm", messages=messages, stream=stream)
    assert caught.value.status_code == 502


@pytest.mark.sample
def test_what_the_model_refuses_is_the_askers_fault(served: Served) -> None:
    response = served.ask(words=0, error="Refused: The prompt has 99 tokens")
    assert response.status_code == 422
    assert "99 tokens" in response.json()["error"]["message"]
    messages = user(words=0, error="Refused: The prompt has 99 tokens")
    with served.openai() as client, pytest.raises(openai.BadRequestError, match="99 tokens"):
        client.chat.completions.create(model="llm", messages=messages, stream=True)


def test_a_prompt_that_the_models_code_chokes_on_is_no_4xx(served: Served) -> None:
    body = {"prompt": "no JSON"}
    response = httpx.post(f"{served.url}/v1/inference", json=body, trust_env=False)
    assert response.status_code == 502
    assert served.ask(words=1).status_code == 200


def test_an_error_event_inside_a_stream_of_triton_is_passed_on(served: Served) -> None:
    response = served.ask(words=3, error="out of memory", stream=True)
    assert response.status_code == 200
    names = [line for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == [*["event: token"] * 3, "event: error"]
    assert "out of memory" in response.text
    assert served.ask(words=3, error="out of memory").status_code == 502
    with served.openai() as client:
        for create in (
            lambda: client.chat.completions.create(
                model="llm", messages=user(words=3, error="out of memory"), stream=True
            ),
            lambda: client.completions.create(
                model="llm", prompt=json.dumps({"words": 3, "error": "out of memory"}), stream=True
            ),
        ):
            with pytest.raises(openai.APIError, match="out of memory"):
                list(create())


@pytest.mark.sample
@pytest.mark.parametrize("places", [1, 3])
def test_never_more_reach_triton_than_the_governor_allows(served: Served, places: int) -> None:
    """The model itself says how many are in it, with four times as many asking."""
    served.limit.set(places, "as the test says")
    with ThreadPoolExecutor(4 * places) as pool:
        asked = [pool.submit(served.ask, words=10, pause_s=0.02) for _ in range(8 * places)]
        answers = [one.result() for one in asked]
    assert {one.status_code for one in answers} == {200}
    inside = [int(word) for one in answers for word in one.json()["text"].split()]
    assert max(inside) == places


def test_a_limit_that_falls_lets_nobody_in_until_enough_have_left(served: Served) -> None:
    served.limit.set(PLACES, "cool")
    with ThreadPoolExecutor(2 * PLACES) as pool:
        first = [pool.submit(served.ask, words=20, pause_s=0.05) for _ in range(PLACES)]
        wait_for(lambda: served.admission.counts.inside == PLACES)
        served.limit.set(1, "hot")
        then = [pool.submit(served.ask, words=5, pause_s=0.02) for _ in range(PLACES)]
        assert {one.result().status_code for one in (*first, *then)} == {200}
    for one in then:
        assert set(one.result().json()["text"].split()) == {"1"}
    served.limit.set(PLACES, "cool")


def test_an_answer_beyond_its_time_is_ended_and_the_model_stops(triton: TritonServer) -> None:
    with gateway(triton, GatewayConfig(limit_s=0.5)) as served:
        began = time.monotonic()
        assert served.ask(words=10_000, pause_s=0.01).status_code == 504
        streamed = served.ask(words=10_000, pause_s=0.01, stream=True)
        assert streamed.text.rstrip().splitlines()[-2] == "event: error"
        assert "not complete after 0.5 s" in streamed.text
        assert time.monotonic() - began < 10
        wait_for(lambda: served.ask(words=1).json()["text"].split() == ["1"])


def test_a_full_queue_says_429_and_when_to_come_back(triton: TritonServer) -> None:
    rules = GatewayConfig(queue=QueueRules(per_place=1))
    with gateway(triton, rules) as served, ThreadPoolExecutor(2) as pool:
        served.limit.set(1, "hot")
        held = [pool.submit(served.ask, words=100, pause_s=0.02) for _ in range(2)]
        wait_for(lambda: served.admission.counts.waiting == 1)
        with served.openai() as client, pytest.raises(openai.RateLimitError, match="hot") as caught:
            client.chat.completions.create(model="llm", messages=user())
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert [one.result().status_code for one in held] == [200, 200]


def test_a_triton_that_is_not_there_is_a_502(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("gone")
    tree = plain_tree(folder / "tree")
    with running(tree, folder / "work") as server, gateway(server) as served:
        assert served.ask(words=1).status_code == 200
        server.stop()
        assert served.ask(words=1).status_code == 502
        assert served.ask(words=1, stream=True).status_code == 502


def test_keys_let_openais_client_in_and_keep_others_out(triton: TritonServer) -> None:
    keys = ApiKeys((("camera", hashlib.sha256(b"sk-device").digest()),))
    with gateway(triton, keys=keys) as served, served.openai() as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        with client.with_options(api_key="sk-device") as known:
            assert [model.id for model in known.models.list()] == ["llm"]
            chunks = known.chat.completions.create(model="llm", messages=user(words=2), stream=True)
            text = "".join(one.choices[0].delta.content or "" for one in chunks)
            assert len(text.split()) == 2


PREFILL_S = 0.5


def hang_up(served: Served, **wanted: Any) -> None:
    """Send a request and close the connection before its first token."""
    address = urlsplit(served.url)
    body = json.dumps({"prompt": json.dumps(wanted), "stream": True}).encode()
    head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((str(address.hostname), address.port or 0), 10) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        time.sleep(0.02)


@pytest.mark.sample
@pytest.mark.parametrize("clients", [1, 8, 16])
def test_after_clients_that_hang_up_the_next_waits_for_one_prompt(
    triton: TritonServer, clients: int
) -> None:
    """Triton itself tells a model of a closed connection only with its first response."""
    with gateway(triton) as served:
        for _ in range(clients):
            hang_up(served, prefill_s=PREFILL_S, words=100)
        began = time.monotonic()
        assert served.ask(words=1, prefill_s=0).json()["text"].split() <= [str(PLACES)]
        assert time.monotonic() - began < 2 * PREFILL_S + 1  # of 16, were all computed
        wait_for(lambda: served.admission.counts.inside == 0)
        assert served.ask(words=1).json()["text"].split() == ["1"]  # nothing else is in the model


def test_readers_that_are_slow_hold_no_place(triton: TritonServer) -> None:
    """The model says 2,000 words at once; nobody reads them."""
    with gateway(triton) as served, contextlib.ExitStack() as stack:
        served.limit.set(2, "as the test says")
        body = {"prompt": json.dumps({"words": 2000}), "stream": True, "max_tokens": 1024}
        slow = []
        for _ in range(2):
            client = stack.enter_context(httpx.Client(trust_env=False, timeout=60))
            response = client.stream("POST", f"{served.url}/v1/inference", json=body)
            slow.append(stack.enter_context(response).iter_bytes(64))
        firsts = [next(one) for one in slow]
        wait_for(lambda: served.admission.counts.inside == 0)
        assert served.ask(words=1).json()["text"].split() == ["1"]
        for first, rest in zip(firsts, slow, strict=True):
            assert b"".join((first, *rest)).count(b"event: token") == 2000
