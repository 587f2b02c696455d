"""The gateway over a real Triton whose model does as it is told: errors, limits, keys, the queue.

The client is OpenAI's or httpx over real sockets; the real language model is in
test_gateway_openai.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from forge.device.admission import Admission, QueueRules
from forge.device.answers import Triton
from forge.device.api_keys import ApiKeys
from forge.device.gateway import GatewayRules, create_app
from forge.device.limit import Limit
from forge.device.live import Live
from forge.serving.server import TritonServer
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.plain_model import plain_tree
from tests.support.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.network]

PLACES = 4


@dataclass
class Served:
    """A gateway, and what of it a test may turn."""

    url: str
    limit: Limit
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
def gateway(triton: TritonServer, rules: GatewayRules | None = None) -> Iterator[Served]:
    live, limit = Live(), Limit(PLACES, "the batch of the bundle")
    app = create_app(live, Triton(), Nothing, limit, rules)
    with listening(app) as url:
        live.set(serving_at(triton.url))
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
    with gateway(triton, GatewayRules(limit_s=0.5)) as served:
        began = time.monotonic()
        assert served.ask(words=10_000, pause_s=0.01).status_code == 504
        streamed = served.ask(words=10_000, pause_s=0.01, stream=True)
        assert streamed.text.rstrip().splitlines()[-2] == "event: error"
        assert "not complete after 0.5 s" in streamed.text
        assert time.monotonic() - began < 10
        wait_for(lambda: served.ask(words=1).json()["text"].split() == ["1"])


def test_a_full_queue_says_429_and_when_to_come_back(triton: TritonServer) -> None:
    rules = GatewayRules(QueueRules(per_place=1))
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
    rules = GatewayRules(keys=ApiKeys((hashlib.sha256(b"sk-device").digest(),)))
    with gateway(triton, rules) as served, served.openai() as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        with client.with_options(api_key="sk-device") as known:
            assert [model.id for model in known.models.list()] == ["llm"]
            chunks = known.chat.completions.create(model="llm", messages=user(words=2), stream=True)
            text = "".join(one.choices[0].delta.content or "" for one in chunks)
            assert len(text.split()) == 2
