"""The HTTP API over a real uvicorn; what Triton says is given by hand here, tests/e2e has it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.errors import StepFailedError, UsageError
from tests.support.gateway_app import SERVING, Gateway, Script, Silent, running, wait_for
from tests.support.scrape import scrape


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def gateway(script: Script) -> Iterator[Gateway]:
    with running(script) as made:
        yield made


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_answer_carries_text_usage_and_the_bundle(gateway: Gateway, script: Script) -> None:
    response = gateway.ask(prompt="What is the capital of France?", max_tokens=8)
    assert response.status_code == 200
    assert response.json() == {
        "text": "Paris",
        "release": {"name": "llm", "version": "1.0.0"},
        "finish_reason": "stop",
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    assert script.asked == [("What is the capital of France?", 8)]


def test_a_stream_ends_with_usage(gateway: Gateway) -> None:
    response = gateway.ask(prompt="France?", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events(response.text) == [
        ("token", {"text": "Par"}),
        ("token", {"text": "is"}),
        ("done", {"finish_reason": "stop", "usage": {"input_tokens": 5, "output_tokens": 2}}),
    ]


def test_the_bundles_default_limit_is_used_when_none_is_asked(
    gateway: Gateway, script: Script
) -> None:
    gateway.ask(prompt="France?")
    assert script.asked == [("France?", 16)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "prompt is required"),
        ({"prompt": ""}, "prompt must not be empty"),
        ({"prompt": 7}, "prompt must be a string"),
        ({"prompt": "x" * 100_001}, "prompt must have at most 100000 characters"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens must be at least 1"),
        ({"prompt": "a", "max_tokens": "9"}, "max_tokens must be an integer"),
        ({"prompt": "a", "max_tokens": 65}, "max_tokens 65 is more than this bundle's 64"),
        ({"prompt": "a", "maxtokens": 5}, "maxtokens is not a valid parameter"),
        ({"prompt": "a", "stream": "yes"}, "stream must be true or false"),
    ],
)
def test_a_bad_request_is_refused_with_the_field_at_fault(
    gateway: Gateway, script: Script, body: dict[str, Any], said: str
) -> None:
    response = gateway.client.post("/v1/inference", json=body)
    assert response.status_code == 422
    assert said in response.json()["error"]["message"]
    assert response.json()["error"]["hint"]
    assert script.asked == []
    assert gateway.ask(prompt="France?").json()["text"] == "Paris"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"prompt": "\\ud800"}'])
def test_a_body_that_is_no_request_is_refused(gateway: Gateway, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = gateway.client.post("/v1/inference", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["message"]


def test_the_queue_and_the_governor_stand_in_the_metrics() -> None:
    script = Script(pieces=("x",) * 10, pause_s=0.05)
    rules = GatewayConfig(queue=QueueRules(per_place=1))
    with running(script, rules) as gateway, ThreadPoolExecutor(2) as pool:
        gateway.limit.set(1, "hot")
        answers = [pool.submit(gateway.ask, prompt="a") for _ in range(2)]
        assert wait_for(lambda: gateway.admission.counts.waiting == 1)
        numbers = scrape(gateway.client.get("/metrics").text)
        assert numbers["forge_device_requests_waiting"] == 1
        assert numbers["forge_device_requests_limit"] == 1
        assert numbers['forge_device_limit_changes_total{direction="down"}'] == 1
        assert [answer.result().status_code for answer in answers] == [200, 200]
        numbers = scrape(gateway.client.get("/metrics").text)
    assert numbers["forge_device_queued_total"] == 1
    assert numbers["forge_device_queue_seconds_total"] > 0.2
    assert numbers["forge_device_queue_wait_seconds_count"] == 2
    assert numbers['forge_device_queue_wait_seconds_bucket{le="0.1"}'] == 1
    assert numbers["forge_device_queue_wait_seconds_sum"] == pytest.approx(
        numbers["forge_device_queue_seconds_total"], abs=0.05
    )


def test_without_a_slot_requests_are_told_why_and_when_to_come_back(gateway: Gateway) -> None:
    gateway.upstream.clear("llm 1.1.0 is being activated")
    for response in (gateway.ask(prompt="a"), gateway.client.get("/health/ready")):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert response.json()["error"]["hint"] == "llm 1.1.0 is being activated"
    assert gateway.client.get("/health/live").status_code == 200
    gateway.upstream.set(SERVING)
    ready = gateway.client.get("/health/ready")
    assert (ready.status_code, ready.json()["slot"]) == (200, "a")


def test_an_error_before_the_first_token_is_a_status() -> None:
    with running(Script(pieces=(), error=StepFailedError("Triton is gone"))) as gateway:
        for stream in (False, True):
            response = gateway.ask(prompt="a", stream=stream)
            assert response.status_code == 502
            assert response.json()["error"]["message"] == "Triton is gone"


def test_a_request_the_model_cannot_take_is_the_askers_fault() -> None:
    error = UsageError("The prompt has 99 tokens", hint="at most 64")
    with running(Script(pieces=(), error=error)) as gateway:
        response = gateway.ask(prompt="a", stream=True)
    assert response.status_code == 422
    found = response.json()["error"]
    assert (found["message"], found["hint"]) == ("The prompt has 99 tokens", "at most 64")


@pytest.mark.parametrize("pieces", [(), ("Par",)])
def test_an_answer_that_is_cut_off_is_an_error(pieces: tuple[str, ...]) -> None:
    with running(Silent(pieces=pieces)) as gateway:
        assert gateway.ask(prompt="a").status_code == 502
        response = gateway.ask(prompt="a", stream=True)
    assert "error" in response.text
    assert "done" not in response.text


def test_an_error_inside_a_stream_is_an_error_event() -> None:
    error = StepFailedError("Triton ended", why="out of memory")
    with running(Script(error=error)) as gateway:
        response = gateway.ask(prompt="a", stream=True)
        numbers = scrape(gateway.client.get("/metrics").text)
    assert numbers["forge_device_stream_errors_total"] == 1
    assert numbers['forge_device_requests_total{code="200"}'] == 1
    assert response.status_code == 200
    kind, data = events(response.text)[-1]
    assert kind == "error"
    assert data["error"]["message"] == "Triton ended: out of memory"
    assert data["error"]["code"] == "model_error"


def test_an_error_inside_a_whole_answer_is_no_answer() -> None:
    with running(Script(error=StepFailedError("Triton ended"))) as gateway:
        response = gateway.ask(prompt="a")
    assert response.status_code == 502
    assert "Par" not in response.text


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_client_that_goes_away_cancels_the_answer(mode: str) -> None:
    script = Script(pieces=("x",) * 1000, pause_s=0.05)
    with running(script) as gateway:
        body = json.dumps({"prompt": "a", "stream": mode == "stream"}).encode()
        head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
            assert wait_for(lambda: bool(script.asked))
        assert script.cancelled.wait(10)
        assert gateway.upstream.drain(10) == 0


def test_requests_under_way_are_counted_and_waited_for() -> None:
    script = Script(pieces=("x",) * 4, pause_s=0.1)
    with running(script) as gateway:
        asking = threading.Thread(target=gateway.ask, kwargs={"prompt": "a"})
        asking.start()
        assert wait_for(lambda: bool(script.asked))
        assert gateway.upstream.drain(0.0) == 1
        assert gateway.upstream.drain(10) == 0
        asking.join()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_beyond_the_limit_is_refused_with_the_reason(*, stream: bool) -> None:
    script = Script(pieces=("x",) * 1000, pause_s=0.02)
    with (
        running(script) as gateway,
        gateway.client.stream(
            "POST", "/v1/inference", json={"prompt": "first", "stream": True}
        ) as first,
    ):
        lines = first.iter_lines()
        assert next(lines) == "event: token"
        gateway.limit.set(1, "86.0 °C is near throttling (83 °C)")
        refused = gateway.ask(prompt="second", stream=stream)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"] == {
            "message": "The queue is full: 1 requests are in progress (limit 1), 0 wait (limit 0);"
            " the first limit is lowered: 86.0 °C is near throttling (83 °C)",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
            "hint": "retry in 1 s",
        }
        assert script.asked == [("first", 16)]  # it never reached the model
        gateway.limit.set(2, "cooler")
        with gateway.client.stream(
            "POST", "/v1/inference", json={"prompt": "second", "stream": True}
        ) as second:
            assert second.status_code == 200


def test_a_place_is_free_again_however_the_request_ended() -> None:
    error = StepFailedError("Triton is gone")
    for script in (Script(), Script(error=error), Script(pieces=(), error=error), Silent()):
        with running(script) as gateway:
            gateway.limit.set(1, "hot")
            for stream in (False, True, False, True):
                assert gateway.ask(prompt="a", stream=stream).status_code != 429


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_client_that_goes_away_leaves_its_place(mode: str) -> None:
    script = Script(pieces=("x",) * 1000, pause_s=0.05)
    with running(script) as gateway:
        gateway.limit.set(1, "hot")
        body = json.dumps({"prompt": "a", "stream": mode == "stream"}).encode()
        head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
            assert wait_for(lambda: bool(script.asked))
            assert gateway.ask(prompt="b").status_code == 429
        script.pieces = ("y",)
        assert wait_for(lambda: gateway.ask(prompt="b").status_code == 200)


def test_requests_that_are_inside_end_in_peace_when_the_limit_falls() -> None:
    script = Script(pieces=("x",) * 10, pause_s=0.05)
    with running(script) as gateway, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(gateway.ask, prompt="a") for _ in range(4)]
        assert wait_for(lambda: len(script.asked) == 4)
        gateway.limit.set(1, "hot")
        assert gateway.ask(prompt="b").status_code == 429
        assert [answer.result().json()["text"] for answer in answers] == ["x" * 10] * 4


def test_what_asks_triton_is_closed_at_the_end(script: Script) -> None:
    with running(script) as gateway:
        assert gateway.ask(prompt="a").status_code == 200
        assert not script.closed
    assert script.closed


def test_the_first_token_does_not_wait_for_an_acknowledgement_of_the_head(
    gateway: Gateway,
) -> None:
    """Linux delays one by 40 ms, not at a connection's beginning; a second write would wait."""
    seconds = []
    for _ in range(40):
        began = time.perf_counter()
        gateway.ask(prompt="a", stream=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds[-10:]) < 0.035


def test_hardware_is_described(gateway: Gateway) -> None:
    assert gateway.client.get("/v1/hardware").json() == {"slot": "a"}


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/v1/inference", 405), ("GET", "/redoc", 404), ("GET", "/../etc/passwd", 404),
])  # fmt: skip
def test_nothing_else_is_offered(gateway: Gateway, method: str, path: str, status: int) -> None:
    assert gateway.client.request(method, path).status_code == status


@pytest.mark.parametrize(("path", "hint"), [
    ("/v1/inference", True), ("/v1/completions", False),
])  # fmt: skip
def test_a_mistake_of_the_gateway_is_json_in_the_routes_shape(path: str, hint: bool) -> None:  # noqa: FBT001
    with running(Script(pieces=(), error=ZeroDivisionError())) as gateway:
        response = gateway.client.post(
            path, json={"model": "llm", "prompt": "a"} if not hint else {"prompt": "a"}
        )
        assert gateway.client.get("/health/live").status_code == 200
        counted = scrape(gateway.client.get("/metrics").text)
    assert response.status_code == 500
    assert counted['forge_device_requests_total{code="500"}'] == 1
    error = response.json()["error"]
    assert "Internal error of the gateway" in error["message"]
    assert ("hint" in error, error["code"]) == (hint, "server_error")
