"""Comments in a stream while the model computes the prompt, and what comes after them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.errors import StepFailedError
from forge.serving.triton.stream import StreamEvent
from tests.support.gateway_app import Gateway, Script, running, wait_for

COMMENT = ": keep-alive\n\n"
CONFIG = GatewayConfig(keep_alive_s=0.1)
PREFILL_S = 0.45


@dataclass
class Slow(Script):
    """Computes the prompt for some time."""

    async def __call__(self, *asked: Any) -> AsyncGenerator[Sequence[StreamEvent]]:
        await asyncio.sleep(PREFILL_S)
        async for batch in super().__call__(*asked):
            yield batch


def ask(gateway: Gateway, path: str, *, stream: bool = True) -> httpx.Response:
    model = {} if path == "/v1/inference" else {"model": "llm"}
    return gateway.client.post(path, json={"prompt": "a", "stream": stream, **model})


@pytest.mark.parametrize("path", ["/v1/inference", "/v1/completions"])
def test_comments_come_before_the_answer_which_is_whole(path: str) -> None:
    with running(Slow(), CONFIG) as gateway:
        kept = ask(gateway, path)
        quiet = ask(gateway, path, stream=False)
    with running(Script(), CONFIG) as gateway:
        quick = ask(gateway, path)
    assert kept.status_code == 200
    assert kept.headers["content-type"] == quick.headers["content-type"]
    comments = kept.text.count(COMMENT)
    assert 2 <= comments <= 4
    assert kept.text.startswith(COMMENT * comments)
    assert COMMENT not in quick.text
    assert COMMENT not in quiet.text
    texts = [line for line in kept.text.splitlines() if '"text"' in line]
    assert len(texts) == len([line for line in quick.text.splitlines() if '"text"' in line])


@pytest.mark.parametrize("path", ["/v1/inference", "/v1/completions"])
def test_an_error_after_a_comment_is_an_event_and_keeps_the_connection(path: str) -> None:
    script = Slow(pieces=(), error=StepFailedError("Triton is gone"))
    with running(script, CONFIG) as gateway:
        response = ask(gateway, path)
        assert gateway.client.get("/health/live").status_code == 200
    assert response.status_code == 200
    *_, last = response.text.strip().split("\n\n")
    name, _, data = last.rpartition("data: ")
    assert name == ("event: error\n" if path == "/v1/inference" else "")
    assert "Triton is gone" in json.loads(data)["error"]["message"]


def test_an_error_before_the_first_comment_has_its_status() -> None:
    script = Slow(pieces=(), error=StepFailedError("Triton is gone"))
    with running(script, replace(CONFIG, keep_alive_s=5)) as gateway:
        assert ask(gateway, "/v1/inference").status_code == 502


def test_a_request_that_waits_in_the_queue_may_still_be_refused() -> None:
    config = replace(CONFIG, queue=QueueRules(max_wait_s=0.3))
    with running(Script(pieces=("x",) * 100, pause_s=0.02), config) as gateway:
        gateway.limit.set(1, "one")
        body = {"prompt": "a", "stream": True}
        with gateway.client.stream("POST", "/v1/inference", json=body) as first:
            assert first.status_code == 200
            response = ask(gateway, "/v1/inference")
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1


def test_a_client_that_goes_during_the_comments_stops_the_model() -> None:
    script = Slow(pieces=("x",) * 1000, pause_s=0.05)
    with running(script, CONFIG) as gateway:
        body = {"prompt": "a", "stream": True}
        with gateway.client.stream("POST", "/v1/inference", json=body) as response:
            assert next(response.iter_text()) == COMMENT
        assert wait_for(lambda: gateway.admission.counts.inside == 0)
        assert wait_for(lambda: gateway.upstream.under_way == 0)
