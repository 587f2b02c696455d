"""The backend against servers that never answer or that name a model's inputs."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.errors import UnsupportedParameterError
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from forge.errors import StepFailedError, UsageError
from forge.serving.sampling import Sampling
from forge.serving.triton.request import GenerateRequest
from tests.support.async_server import at
from tests.support.gateway import Nothing, listening, serving_at


def test_silent_triton_is_given_up_at_the_gateways_deadline() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async def work(url: str) -> None:
        upstream = Upstream()
        upstream.set(serving_at(url))
        config = GatewayConfig(limit_s=0.5)
        app = create_app(upstream, TritonBackend(), Nothing, ConcurrencyLimit(1, "one"), config)
        with listening(app) as gateway:
            async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
                answer = await client.post(f"{gateway}/v1/inference", json={"prompt": "a"})
            assert answer.status_code == 504
            assert "not complete after 0.5 s" in answer.json()["error"]["message"]
            await left.wait()  # the connection to Triton is closed too

    asyncio.run(at(silent, work))


class Metadata:
    """A server that says which inputs its model has, and counts how often it was asked."""

    def __init__(self, *inputs: str) -> None:
        self.body = json.dumps({"inputs": [{"name": name} for name in inputs]}).encode()
        self.asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /v2/models/llm HTTP/1.1\r\n")
        self.asked += 1
        length = b"Content-Length: %d" % len(self.body)
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (length, self.body))
        await reader.read()
        writer.close()
        await writer.wait_closed()


def test_parameter_without_an_input_is_refused_by_name_and_inputs_are_read_once() -> None:
    server = Metadata("text_input", "max_tokens")

    async def work(url: str) -> None:
        backend, serving = TritonBackend(), serving_at(url)
        hot = GenerateRequest("a", sampling=Sampling(temperature=0.5))
        for _ in range(2):
            with pytest.raises(UnsupportedParameterError) as caught:
                await backend.check(serving, hot)
            assert caught.value.param == "temperature"
        with pytest.raises(UsageError, match="single user message"):
            await backend.check(serving, GenerateRequest("[]", input_format="messages"))
        await backend.close()
        assert server.asked == 1

    asyncio.run(at(server, work))


def test_request_that_needs_no_optional_input_asks_triton_nothing() -> None:
    async def main() -> None:
        await TritonBackend().check(serving_at("http://127.0.0.1:9"), GenerateRequest("a", 8))

    asyncio.run(main())


def test_model_with_the_input_is_asked() -> None:
    async def work(url: str) -> None:
        backend = TritonBackend()
        hot = GenerateRequest("a", sampling=Sampling(temperature=0.5), input_format="raw")
        await backend.check(serving_at(url), hot)
        await backend.close()

    asyncio.run(at(Metadata("temperature", "input_format"), work))


def test_triton_that_does_not_say_is_an_error_of_the_device() -> None:
    server = Metadata()
    server.body = b"{}"

    async def work(url: str) -> None:
        backend = TritonBackend()
        with pytest.raises(StepFailedError, match="does not say which inputs"):
            await backend.check(serving_at(url), GenerateRequest("a", input_format="raw"))
        await backend.close()

    asyncio.run(at(server, work))
