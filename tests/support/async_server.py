"""A server of a few lines in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["Handler", "at"]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def at(handler: Handler, work: Callable[[str], Awaitable[None]]) -> None:
    """Do some work with the URL of a server; wait until all connections were handled."""
    handled: list[asyncio.Event] = []

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(done := asyncio.Event())
        await handler(reader, writer)
        done.set()

    async with asyncio.timeout(30), await asyncio.start_server(tracked, "127.0.0.1", 0) as server:
        try:
            await work(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            for done in handled:
                await done.wait()
