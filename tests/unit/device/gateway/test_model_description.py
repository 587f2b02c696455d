"""What a model says of itself, asked of a server that answers as Triton does."""

from __future__ import annotations

import asyncio
import json

import pytest

from forge.device.gateway.model_description import ModelDescription
from forge.device.gateway.triton_backend import TritonBackend
from forge.errors import StepFailedError
from tests.support.async_server import at
from tests.support.gateway import serving_at

SAID = {"finish_reason": "described", "input_tokens": 0, "output_tokens": 0}


class Model:
    """A server whose model gives one answer; it keeps what it was asked."""

    def __init__(self, **answer: object) -> None:
        self.answer = answer
        self.asked: list[dict[str, str]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            if head.startswith(b"GET"):
                body = json.dumps({"inputs": [{"name": "input_format"}]}).encode()
                kind = b"application/json"
            else:
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.asked.append(json.loads(await reader.readexactly(length)))
                body = b"data: %b\n\n" % json.dumps(self.answer).encode()
                kind = b"text/event-stream"
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            writer.write(answer % (kind, len(body), body))
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def answers_of(model: Model, times: int = 1) -> list[ModelDescription]:
    """What the backend makes of the model's answers."""
    found: list[ModelDescription] = []

    async def work(url: str) -> None:
        backend, serving = TritonBackend(), serving_at(url)
        try:
            found.extend([await backend.describe(serving) for _ in range(times)])
        finally:
            await backend.close()

    asyncio.run(at(model, work))
    return found


def test_a_model_says_the_format_of_its_calls_and_perhaps_more_and_is_asked_once() -> None:
    model = Model(text_output=json.dumps({"tool_calls": "llama", "later": 1}), **SAID)
    assert answers_of(model, times=2) == [ModelDescription(tool_calls="llama")] * 2
    assert model.asked == [{"text_input": "{}", "input_format": "describe"}]


def test_a_model_of_an_earlier_bundle_says_nothing() -> None:
    model = Model(error="Refused: input_format must be one of user, messages")
    assert answers_of(model) == [ModelDescription()]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tool_calls": 7}'])
def test_what_is_no_description_is_an_error_of_the_device(text: str) -> None:
    with pytest.raises(StepFailedError, match="does not say what it can do"):
        answers_of(Model(text_output=text, **SAID))


def test_a_model_that_failed_is_an_error_of_the_device() -> None:
    with pytest.raises(StepFailedError, match="The model failed"):
        answers_of(Model(error="out of memory"))
