"""What one request records, read from /metrics after a scripted backend has answered."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from forge.errors import StepFailedError
from forge.serving.triton.stream import Finished, StreamEvent, Token
from tests.support.gateway_app import Gateway, Script, running, wait_for
from tests.support.scrape import scrape

FIRST_S, GAP_S = 0.2, 0.1


@dataclass
class Paced(Script):
    """Waits before the first token and between tokens; the last event has the counts."""

    output_tokens: int = 3

    async def __call__(self, *_: Any) -> AsyncGenerator[Sequence[StreamEvent]]:
        await asyncio.sleep(FIRST_S)
        yield [Token("a")]
        await asyncio.sleep(GAP_S)
        yield [Token("b")]
        await asyncio.sleep(GAP_S)
        end = Finished("stop", input_tokens=5, output_tokens=self.output_tokens)
        yield [Token("c"), end]


def numbers(gateway: Gateway) -> dict[str, float]:
    return scrape(gateway.client.get("/metrics").text)


def ended(gateway: Gateway, outcome: str) -> float:
    return numbers(gateway).get(f'forge_device_request_seconds_count{{outcome="{outcome}"}}', 0)


@pytest.mark.parametrize("path", ["/v1/inference", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_complete_answer_records_first_token_pace_and_duration(path: str, *, stream: bool) -> None:
    with running(Paced()) as gateway:
        model = {} if path == "/v1/inference" else {"model": "llm"}
        body = {"prompt": "a", "stream": stream, **model}
        for _ in range(2):
            assert gateway.client.post(path, json=body).status_code == 200
        assert wait_for(lambda: ended(gateway, "complete") == 2)
        found = numbers(gateway)
    name = "forge_device_time_to_first_token_seconds"
    assert found[f"{name}_count"] == 2
    assert found[f'{name}_bucket{{le="0.1"}}'] == 0  # not before the backend said it
    first = found[f"{name}_sum"] / 2
    assert first >= FIRST_S
    # (latency - time to first token) / (3 - 1), and both waits are what lies between
    assert found["forge_device_inter_token_seconds_count"] == 2
    pace = found["forge_device_inter_token_seconds_sum"] / 2
    assert pace >= GAP_S
    whole = found['forge_device_request_seconds_sum{outcome="complete"}'] / 2
    assert whole >= first + 2 * pace - 0.001
    assert found["forge_device_queue_wait_seconds_count"] == 2
    assert found['forge_device_queue_wait_seconds_bucket{le="0.1"}'] == 2


def test_answer_of_one_token_has_no_pace() -> None:
    with running(Paced(output_tokens=1)) as gateway:
        assert gateway.ask(prompt="a").status_code == 200
        assert ended(gateway, "complete") == 1
        assert numbers(gateway)["forge_device_inter_token_seconds_count"] == 0


@pytest.mark.parametrize("pieces", [(), ("a",)], ids=["before a token", "after a token"])
@pytest.mark.parametrize("stream", [False, True])
def test_failed_answer_is_recorded_as_error(pieces: tuple[str, ...], *, stream: bool) -> None:
    with running(Script(pieces=pieces, error=StepFailedError("Triton is gone"))) as gateway:
        gateway.ask(prompt="a", stream=stream)
        assert wait_for(lambda: ended(gateway, "error") == 1)
        found = numbers(gateway)
    assert found["forge_device_time_to_first_token_seconds_count"] == len(pieces)
    assert found["forge_device_inter_token_seconds_count"] == 0
    assert 'forge_device_request_seconds_count{outcome="complete"}' not in found


def test_client_that_disconnects_is_recorded_as_cancelled() -> None:
    with running(Script(pieces=("x",) * 1000, pause_s=0.05)) as gateway:
        body = json.dumps({"prompt": "a", "stream": True}).encode()
        head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(head.encode() + body)
            assert connection.recv(4096)
        assert wait_for(lambda: ended(gateway, "cancelled") == 1)


def test_answer_ended_by_a_stop_sequence_is_complete_and_has_no_pace() -> None:
    script = Script(pieces=("one ", "two ", "three "), pause_s=0.01, unsupported="stop")
    with running(script) as gateway:
        body = {"model": "llm", "prompt": "a", "stop": "two", "stream": True}
        assert gateway.client.post("/v1/completions", json=body).status_code == 200
        assert wait_for(lambda: ended(gateway, "complete") == 1)
        assert numbers(gateway)["forge_device_inter_token_seconds_count"] == 0


def test_refused_request_has_no_duration() -> None:
    with running(Script()) as gateway:
        gateway.upstream.clear("an update")
        assert gateway.ask(prompt="a").status_code == 503
        found = numbers(gateway)
    assert not [name for name in found if name.startswith("forge_device_request_seconds_count")]
    assert found["forge_device_queue_wait_seconds_count"] == 0
