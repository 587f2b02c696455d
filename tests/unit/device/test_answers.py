"""How long Triton may take, seen by a server that never answers; what it says has tests/e2e."""

from __future__ import annotations

import asyncio
import time

import pytest

from forge.device.answers import Question, Triton
from forge.errors import StepFailedError
from tests.support.gateway import serving_at


def test_the_first_token_may_take_as_long_as_the_answer_and_no_longer() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async def main() -> float:
        async with (
            asyncio.timeout(30),
            await asyncio.start_server(silent, "127.0.0.1", 0) as server,
        ):
            triton = Triton(limit_s=0.5)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            began = time.monotonic()
            with pytest.raises(StepFailedError, match="did not answer in time"):
                await anext(triton(serving_at(url), Question("a")))
            seconds = time.monotonic() - began
            await triton.close()
            await left.wait()
            return seconds

    assert 0.5 <= asyncio.run(main()) < 5
    assert Triton(limit_s=3600)._timeouts.first == Triton(limit_s=3600)._timeouts.total == 3600
