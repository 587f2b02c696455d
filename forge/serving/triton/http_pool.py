"""A pool of keep-alive connections for asyncio that yields response bytes as they arrive.

    with closing(await pool.request("POST", url, body, HttpTimeouts())) as response:
        async for data in response: ...

A client of our own over httptools, because the gateway may add 2 ms to the first token
(docs/explanation/decisions/0018; benchmarks/triton_client.py compares it with aiohttp).
"""

from __future__ import annotations

import asyncio
import functools
from urllib.parse import urlsplit

from forge.serving.triton.connector import connector
from forge.serving.triton.http_connection import Connection, Response, ResponseObserver, Unread
from forge.serving.triton.request import HttpTimeouts
from forge.serving.triton.trace_context import outgoing_headers

__all__ = ["TritonConnectionPool"]


class TritonConnectionPool:
    """Connections to any servers, pooled by host and port; for use from one event loop only."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = {}

    async def request(self, method: str, url: str, body: bytes, timeouts: HttpTimeouts) -> Response:
        """Send a request and wait for the head of its response; close that.

        Raises:
            TimeoutError: no connection or no head in time.
            OSError: no connection, or it broke.
            ValueError: not a valid http URL.
        """
        place, data = _request(method, url, body)
        response = (await self._connection(place, timeouts)).send(data, timeouts)
        try:
            try:
                await response.head()
            except ConnectionError:
                if not response.never_received:
                    raise
                response.close()
                response = (await self._connect(place, timeouts)).send(data, timeouts)
                await response.head()
        except BaseException:
            response.close()
            raise
        return response

    async def send(
        self,
        url: str,
        body: bytes,
        timeouts: HttpTimeouts,
        unread: Unread,
        observer: ResponseObserver,
        *,
        fresh: bool = False,
    ) -> Response:
        """POST and return the response at once, of which nothing was received yet.

        Args:
            url: of a server, http.
            body: JSON.
            timeouts: for the connection, and of the response.
            unread: what may be held for a reader.
            observer: learns of the response's end.
            fresh: use a new connection, because a kept one was closed (`never_received`).

        Raises:
            TimeoutError: no connection in time.
            OSError: no connection.
            ValueError: not a valid http URL.
        """
        place, data = _request("POST", url, body)
        make = self._connect if fresh else self._connection
        connection = await make(place, timeouts)
        return connection.send(data, timeouts, unread, observer)

    def close(self) -> None:
        """Close the idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    async def _connection(self, place: tuple[str, int], timeouts: HttpTimeouts) -> Connection:
        return self._pop_idle(place) or await self._connect(place, timeouts)

    def _pop_idle(self, place: tuple[str, int]) -> Connection | None:
        idle = self._idle.get(place, [])
        while idle:
            connection = idle.pop()
            if not connection.lost:
                return connection
        return None

    async def _connect(self, place: tuple[str, int], timeouts: HttpTimeouts) -> Connection:
        alive = {at: [one for one in idle if not one.lost] for at, idle in self._idle.items()}
        self._idle = {at: idle for at, idle in alive.items() if idle}

        def keep(connection: Connection) -> None:
            self._idle.setdefault(place, []).append(connection)

        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeouts.connect):
            connected = await connector(*place).connect_async()
            _, connection = await loop.create_connection(lambda: Connection(keep), sock=connected)
        return connection


def _request(method: str, url: str, body: bytes) -> tuple[tuple[str, int], bytes]:
    """Return the address and the bytes of a request."""
    place, target = _split(url)
    sent = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    host = f"{place[0]}:{place[1]}"
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n"
    head += outgoing_headers()
    return place, f"{head}{sent if method == 'POST' else ''}\r\n".encode("ascii") + body


@functools.lru_cache(maxsize=64)
def _split(url: str) -> tuple[tuple[str, int], str]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not a valid http URL")
    return (parts.hostname, parts.port or 80), parts.path or "/"
