"""Kept-alive connections to servers from asyncio: the bytes of an answer as they come.

    with closing(await pool.ask("POST", url, body, Patience(...))) as response:
        async for data in response: ...

A client of our own, over httptools, because the gateway's first token has 2 ms
(docs/decisions/0018).
"""

from __future__ import annotations

import asyncio
import functools
from urllib.parse import urlsplit

from forge.serving.connection import Connection, Patience, Response

__all__ = ["Connections", "Patience", "Response"]


class Connections:
    """Connections to any servers, kept by host and port; used from one event loop only."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = {}

    async def ask(self, method: str, url: str, body: bytes, patience: Patience) -> Response:
        """Ask, and wait for the head; close the response.

        Raises:
            TimeoutError: no connection or no head in time.
            OSError: no connection, or it broke.
            ValueError: the URL is none of http.
        """
        place, target = _split(url)
        sent = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        host = f"{place[0]}:{place[1]}"
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n"
        request = f"{head}{sent if method == 'POST' else ''}\r\n".encode("ascii") + body
        connection = self._kept(place)
        while True:
            fresh = connection is None
            response = (connection or await self._connect(place, patience)).ask(request, patience)
            try:
                await response.head()
            except BaseException as error:
                response.close()
                # A kept connection that the server gave up while it was idle: it has seen nothing
                # of this. On a fresh one it may be this very request that ended it.
                if fresh or response.heard or not isinstance(error, ConnectionError):
                    raise
                connection = None
            else:
                return response

    def close(self) -> None:
        """Hang up what is idle."""
        for connections in self._idle.values():
            for connection in connections:
                connection.cut()
        self._idle.clear()

    def _kept(self, place: tuple[str, int]) -> Connection | None:
        idle = self._idle.get(place, [])
        while idle:
            connection = idle.pop()
            if not connection.lost:
                return connection
        return None

    async def _connect(self, place: tuple[str, int], patience: Patience) -> Connection:
        alive = {at: [one for one in idle if not one.lost] for at, idle in self._idle.items()}
        self._idle = {at: idle for at, idle in alive.items() if idle}

        def keep(connection: Connection) -> None:
            self._idle.setdefault(place, []).append(connection)

        loop = asyncio.get_running_loop()
        async with asyncio.timeout(patience.connect):
            _, connection = await loop.create_connection(lambda: Connection(keep), *place)
        return connection


@functools.lru_cache(maxsize=64)
def _split(url: str) -> tuple[tuple[str, int], str]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is no http URL")
    return (parts.hostname, parts.port or 80), parts.path or "/"
