"""Streams of chunks, byte by byte as they are sent."""

from __future__ import annotations

import json

import httpx
import pytest

from forge.device.gateway.config import GatewayConfig
from forge.errors import StepFailedError
from tests.support.gateway_app import Script, running

CHAT = {"model": "llm", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def lines(script: Script, **more: object) -> list[str]:
    with running(script, GatewayConfig()) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        answer = httpx.post(url, json=CHAT | more, trust_env=False, timeout=20)
    assert answer.status_code == 200
    return [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]


def test_stream_ends_with_done_and_all_chunks_have_one_id() -> None:
    *chunks, done = lines(Script(pieces=('"quoted"', "é\n")))
    parsed = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in parsed}) == 1
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in parsed]
    assert "".join(texts) == '"quoted"é\n'
    assert [chunk["choices"][0]["finish_reason"] for chunk in parsed].count("stop") == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_comes_last_if_it_is_wanted(*, wanted: bool) -> None:
    *_, last, done = lines(Script(), stream_options={"include_usage": wanted})
    assert done == "[DONE]"
    assert ("usage" in json.loads(last)) == wanted


def test_stream_that_fails_ends_with_an_error_and_without_done() -> None:
    *_, last = lines(Script(error=StepFailedError("The model failed")))
    assert "The model failed" in json.loads(last)["error"]["message"]
