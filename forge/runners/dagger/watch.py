"""Notice within 10 s that an engine is gone while something waits for it.

A query of Dagger has no timeout, because a step may take hours, and a network that drops packets
ends no connection. So its address is connected to in between: every 2 s, for at most 3 s, and once
more after 1 s before the engine counts as lost: 9 s at most. The kernel accepts such a connection,
so that an engine that is merely busy is not lost; one that hangs is not noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

__all__ = ["EngineLostError", "Pace", "until_lost"]

_T = TypeVar("_T")


class EngineLostError(Exception):
    """Nothing accepts connections at the address of an engine; the message says why."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When an engine's address is connected to, in seconds.

    Attributes:
        pause: between two connections.
        timeout: of a connection.
        again: before the second try after one that failed.
    """

    pause: float = 2.0
    timeout: float = 3.0
    again: float = 1.0


_PACE: Final = Pace()


async def until_lost(
    work: Coroutine[Any, Any, _T], address: str | None, pace: Pace | None = None
) -> _T:
    """Return the result of `work`, which is cancelled when the engine is lost.

    Args:
        work: what waits for the engine.
        address: of the engine, `unix:///…` or `tcp://HOST:PORT`; others are not watched.
        pace: when it is connected to; None: as above.

    Raises:
        EngineLostError: the engine is gone.
    """
    parts = urlsplit(address or "")
    running, watching = asyncio.ensure_future(work), None
    if parts.scheme in {"unix", "tcp"}:
        watching = asyncio.ensure_future(_lost(address or "", pace or _PACE))
    try:
        waiting = {running} if watching is None else {running, watching}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if running.done() or watching is None:
            return running.result()
        raise EngineLostError(watching.result())
    finally:
        for task in (running, watching):
            if task is not None and not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _lost(address: str, pace: Pace) -> str:
    """Return why an engine counts as lost, as soon as it does."""
    while True:
        await asyncio.sleep(pace.pause)
        if await _unreachable(address, pace.timeout):
            await asyncio.sleep(pace.again)
            if reason := await _unreachable(address, pace.timeout):
                return reason


async def _unreachable(address: str, timeout_s: float) -> str:
    """Return why an address accepts no connection; empty if it does."""
    try:
        async with asyncio.timeout(timeout_s):
            family, place = await _place(address)
            with socket.socket(family) as connection:
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connection, place)
    except TimeoutError:
        return f"no connection within {timeout_s:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _place(address: str) -> tuple[int, Any]:
    """Return the address family and the socket address of an engine. Raises OSError."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return socket.AF_UNIX, parts.path
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    return found[0][0], found[0][4]
