"""An engine that is lost while something waits for it, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from forge.runners.dagger import watch
from forge.runners.dagger.watch import EngineLostError, Pace, until_lost
from tests.support.fake_dagger import FakeEngine

AT_ONCE = Pace(pause=0.0, timeout=0.2, again=0.0)
GUARD_S = 60.0  # ends a test whose program waits for ever


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    # The name of a socket has at most 107 characters, and the tests' own folder may be deep.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = FakeEngine(Path(folder) / "e.sock")
        yield made
        made.close()


class Work:
    """Something that waits for an engine, and notes that it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    async def __call__(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "never"


def watched(work: Coroutine[Any, Any, Any], address: str | None, pace: Pace = AT_ONCE) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(GUARD_S):
            return await until_lost(work, address, pace)

    return asyncio.run(run())


def lost(address: str) -> str:
    """Return why an engine counts as lost; what waited for it was cancelled."""
    work = Work()
    with pytest.raises(EngineLostError) as caught:
        watched(work(), address)
    assert work.cancelled
    return str(caught.value)


def test_engine_whose_socket_is_gone_is_lost(engine: FakeEngine) -> None:
    engine.close()
    assert lost(engine.address) == "Connection refused"
    Path(engine.address.removeprefix("unix://")).unlink()
    assert lost(engine.address) == "No such file or directory"


def test_engine_whose_port_is_closed_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "Connect call failed" in lost(f"tcp://127.0.0.1:{port}")


def test_engine_behind_a_network_that_drops_packets_is_lost() -> None:
    """The queue of a socket that accepts nothing is full: the kernel drops what comes after."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        assert lost(f"tcp://127.0.0.1:{server.getsockname()[1]}") == "no connection within 0.2 s"


def test_engine_that_accepts_is_not_lost_however_long_a_step_takes(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    often, tries = asyncio.Event(), iter(range(20))
    connect = watch._unreachable

    async def counted(address: str, timeout_s: float) -> str:
        if next(tries, None) is None:
            often.set()
        return await connect(address, timeout_s)

    async def work() -> str:
        await often.wait()
        return "done"

    monkeypatch.setattr(watch, "_unreachable", counted)
    assert watched(work(), engine.address) == "done"


def test_engine_that_comes_back_before_the_second_try_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    often = asyncio.Event()
    answers = iter(["refused", "", "refused", "", "refused", ""])

    async def unreachable(_address: str, _timeout_s: float) -> str:
        answer = next(answers, None)
        if answer is None:
            often.set()
        return answer or ""

    async def work() -> str:
        await often.wait()
        return "done"

    monkeypatch.setattr(watch, "_unreachable", unreachable)
    assert watched(work(), "tcp://thor:8080") == "done"


@pytest.mark.parametrize("address", [None, "docker-image://registry.dagger.io/engine:v0.21.8"])
def test_engine_that_dagger_starts_itself_is_not_connected_to(address: str | None) -> None:
    async def work() -> str:
        for _ in range(100):
            await asyncio.sleep(0)
        return "done"

    assert watched(work(), address) == "done"


def test_error_of_the_work_is_its_own(engine: FakeEngine) -> None:
    async def work() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        watched(work(), engine.address)


def test_cancelled_wait_cancels_the_work(engine: FakeEngine) -> None:
    work = Work()

    async def run() -> None:
        waiting = asyncio.create_task(until_lost(work(), engine.address))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert work.cancelled


def test_loss_is_noticed_within_ten_seconds() -> None:
    """With what the session takes to end its program: forge.runners.dagger.session."""
    from forge.runners.dagger.session import _END_LOST_S

    pace = Pace()
    assert pace.pause + pace.timeout + pace.again + pace.timeout + _END_LOST_S <= 10
