"""Our client of Triton beside a twin over aiohttp: the reason for the former, kept checkable.

    uv run --with-requirements benchmarks/requirements.lock python benchmarks/triton_client.py

A bare server in a process of its own streams 32 tokens in Triton's format; one session asks it
again and again. Rounds of both clients alternate. Printed: the time to the first token, and the
client's own processor time for each request, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import aiohttp  # type: ignore[import-not-found]

from forge.serving.triton.http_pool import TritonConnectionPool
from forge.serving.triton.request import HttpTimeouts

BODY = json.dumps({"text_input": "a", "max_tokens": 32}).encode()
EVENT = b'data: {"model_name":"llm","text_output":"word "}\n\n'
Client = Callable[[str, list[float]], AsyncIterator[None]]


def serve(ready: Connection) -> None:
    """Answer each request with 32 chunks in separate writes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(BODY))
                writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for _ in range(32):
                    writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                    await asyncio.sleep(0)
                writer.write(b"0\r\n\r\n")

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def ours(url: str, first: list[float]) -> AsyncIterator[None]:
    """TritonConnectionPool: one request for each step of this generator."""
    pool, timeouts = TritonConnectionPool(), HttpTimeouts()
    try:
        while True:
            began = time.perf_counter()
            with closing(await pool.request("POST", url, BODY, timeouts)) as response:
                await response.read()
                first.append(time.perf_counter() - began)
                while await response.read():
                    pass
            yield
    finally:
        pool.close()


async def twin(url: str, first: list[float]) -> AsyncIterator[None]:
    """The same over aiohttp, with the same timeouts."""
    timeout = aiohttp.ClientTimeout(total=600, sock_connect=5, sock_read=120)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        while True:
            began = time.perf_counter()
            async with session.post(url, data=BODY) as response:
                await response.content.readany()
                first.append(time.perf_counter() - began)
                while await response.content.readany():
                    pass
            yield


async def measure(client: Client, url: str, requests: int) -> tuple[list[float], float]:
    """Return seconds to each first token, and this process's CPU seconds for a request."""
    first: list[float] = []
    steps = client(url, first)
    for _ in range(20):
        await anext(steps)
    first.clear()
    began = time.process_time()
    for _ in range(requests):
        await anext(steps)
    cpu = (time.process_time() - began) / requests
    await steps.aclose()  # type: ignore[attr-defined]
    return first, cpu


def main() -> int:
    """Measure and print one line for each client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300, help="of each client in a round")
    arguments = parser.parse_args()
    receiving, sending = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.Process(target=serve, args=(sending,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{receiving.recv()}/v2/models/llm/generate_stream"
    found: dict[str, tuple[list[float], list[float]]] = {"ours": ([], []), "aiohttp": ([], [])}
    for _ in range(arguments.rounds):
        for name, client in (("ours", ours), ("aiohttp", twin)):
            first, cpu = asyncio.run(measure(client, url, arguments.requests))
            found[name][0].extend(first)
            found[name][1].append(cpu)
    server.terminate()
    for name, (first, cpus) in found.items():
        p50, cpu = 1000 * statistics.median(first), 1000 * statistics.median(cpus)
        print(f"{name:8} first token p50 {p50:.2f} ms, client's CPU {cpu:.2f} ms a request")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
