"""Work that a disconnect cancels, and what it leaves of its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from forge.device.gateway.disconnect import (
    DISCONNECT_EXTENSION,
    CancelOnDisconnect,
    ClientDisconnectedError,
)


@dataclass
class Connection:
    """A connection that a test loses, in the way of LimitedConnection."""

    lost: bool = False
    on_disconnect: set[CancelOnDisconnect] = field(default_factory=set)

    def write_piece(self, data: bytes) -> bool:
        raise AssertionError(data)

    @property
    def scope(self) -> dict[str, Any]:
        return {"extensions": {DISCONNECT_EXTENSION: {"connection": self}}}

    def lose(self) -> None:
        self.lost = True
        for one in tuple(self.on_disconnect):
            one.cancel()


@dataclass
class Work:
    """A task that waits in the body until it is released or cancelled."""

    connection: Connection = field(default_factory=Connection)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    cancelling: int | None = None  # of the task, after the body

    async def __call__(self) -> str:
        try:
            with CancelOnDisconnect(self.connection.scope):
                await self.release.wait()
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.cancelling = task.cancelling()
        return "answered"


def go(test: Callable[[Work], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await test(Work())

    asyncio.run(run(), debug=True)


async def begun(work: Work) -> asyncio.Task[str]:
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert work.connection.on_disconnect
    return task


def test_a_client_that_has_gone_before_is_not_worked_for() -> None:
    connection = Connection(lost=True)
    with pytest.raises(ClientDisconnectedError), CancelOnDisconnect(connection.scope):
        raise AssertionError("the body began")
    assert connection.on_disconnect == set()


def test_a_disconnect_ends_the_body_and_leaves_no_cancellation() -> None:
    async def test(work: Work) -> None:
        task = await begun(work)
        work.connection.lose()
        with pytest.raises(ClientDisconnectedError):
            await task
        assert work.cancelling == 0  # or the next asyncio.timeout of the task would misread it
        assert work.connection.on_disconnect == set()

    go(test)


def test_a_body_that_ends_is_forgotten() -> None:
    async def test(work: Work) -> None:
        task = await begun(work)
        work.release.set()
        assert await task == "answered"
        assert work.connection.on_disconnect == set()
        work.connection.lose()

    go(test)


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def test(work: Work) -> None:
        task = await begun(work)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.connection.on_disconnect == set()

    go(test)


def test_a_cancellation_from_elsewhere_goes_before_a_disconnect() -> None:
    async def test(work: Work) -> None:
        task = await begun(work)
        task.cancel()  # the server shuts down
        work.connection.lose()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.cancelling == 1

    go(test)


def test_an_error_of_the_body_is_not_hidden() -> None:
    async def test(work: Work) -> None:
        with pytest.raises(ZeroDivisionError), CancelOnDisconnect(work.connection.scope):
            raise ZeroDivisionError
        assert work.connection.on_disconnect == set()

    go(test)


def test_an_error_while_the_body_is_cancelled_is_not_hidden() -> None:
    async def test(work: Work) -> None:
        async def clumsy() -> None:
            with CancelOnDisconnect(work.connection.scope):
                try:
                    await work.release.wait()
                finally:
                    raise ZeroDivisionError

        task = asyncio.create_task(clumsy())
        await asyncio.sleep(0)
        work.connection.lose()
        with pytest.raises(ZeroDivisionError):
            await task

    go(test)
