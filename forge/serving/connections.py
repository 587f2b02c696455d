"""Kept-alive connections to one server from asyncio: the bytes of an answer as they come.

    async with pool.exchange("POST", path, body, Patience(...)) as response:
        async for data in response: ...

aiohttp, whose parser is C: httpx took seven times the processor time for an answer of 32 tokens
(docs/decisions/0018).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

import aiohttp

__all__ = ["Connections", "Patience", "Response"]

_KINDS: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: for a connection, for the first bytes, between two reads."""

    connect: float
    first: float
    gap: float


class Response:
    """An answer whose head has come.

    Attributes:
        status: of HTTP.
        kind: the Content-Type.
    """

    def __init__(self, response: aiohttp.ClientResponse, gap_s: float) -> None:
        self.status = response.status
        self.kind = response.headers.get("Content-Type", "")
        self._content = response.content
        self._gap_s = gap_s

    async def read(self) -> bytes:
        """What has come, at least a byte; b"" at the end.

        Raises:
            TimeoutError: nothing came for `gap` seconds.
            ConnectionError: it broke off.
        """
        with _explained():
            async with asyncio.timeout(self._gap_s):
                return await self._content.readany()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as `read` gives it."""
        while data := await self.read():
            yield data


class Connections:
    """Connections to any servers, kept by host and port; used from one event loop only."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def exchange(
        self, method: str, url: str, body: bytes, patience: Patience
    ) -> AsyncIterator[Response]:
        """Ask, and hold the connection until the body; one that was not read to its end is cut.

        Raises:
            TimeoutError: no connection or no head in time.
            OSError: no connection, or it broke.
        """
        response = await self._ask(method, url, body, patience)
        try:
            yield Response(response, patience.gap)
        finally:
            response.close()

    async def close(self) -> None:
        """Hang up."""
        if self._session:
            await self._session.close()

    async def _ask(
        self, method: str, url: str, body: bytes, patience: Patience
    ) -> aiohttp.ClientResponse:
        session = self._open()
        times = aiohttp.ClientTimeout(total=None, sock_connect=patience.connect)
        headers = _KINDS if body else None
        with _explained():
            for last in (False, True):
                used = _Used()
                try:
                    async with asyncio.timeout(patience.first):
                        return await session.request(
                            method,
                            url,
                            data=body or None,
                            headers=headers,
                            timeout=times,
                            trace_request_ctx=used,
                        )
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    # A kept connection that the server gave up while it was idle: it has seen
                    # nothing of this. On a fresh one it may be this very request that ended it.
                    if last or not used.before or _heard(error):
                        raise
        raise AssertionError("unreachable: the last try returns or raises")

    def _open(self) -> aiohttp.ClientSession:
        """Made at the first use, in the event loop it belongs to."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the queue in front bounds them
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
                trace_configs=[_tracing()],
            )
        return self._session


@dataclass(slots=True)
class _Used:
    """Whether the connection that a request got had been used before."""

    before: bool = False


def _tracing() -> aiohttp.TraceConfig:
    async def note(
        _: aiohttp.ClientSession,
        context: SimpleNamespace,
        __: aiohttp.TraceConnectionReuseconnParams,
    ) -> None:
        context.trace_request_ctx.before = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    return tracing


def _heard(error: aiohttp.ClientError) -> bool:
    """Whether a part of an answer had come: aiohttp keeps it as the message."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientError as error:
        if isinstance(error, OSError):
            raise
        raise ConnectionError(str(error) or type(error).__name__) from error
