"""One question's way: a place, the model's events, a time limit, and an end in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from forge.device.admission import Admission
from forge.device.answers import Answers, Question
from forge.device.callers import hang_up
from forge.device.leaving import GoneError, Leaving
from forge.device.live import Live, Serving
from forge.device.metrics import Metrics
from forge.device.refusals import LateError
from forge.errors import ForgeError, StepFailedError, UsageError
from forge.serving.events import Event, Finished

__all__ = ["Desk", "EventStream", "Reply"]

_LAST_WORDS_S: Final = 1.0  # to say that the time is over


class Reply:
    """An answer that has begun; holds its place until it is closed.

    Attributes:
        serving: what answers.
        time: how long it may take.
    """

    def __init__(
        self,
        serving: Serving,
        first: Sequence[Event],
        rest: AsyncGenerator[Sequence[Event]],
        time: _Time,
        held: AsyncExitStack,
    ) -> None:
        self.serving = serving
        self.time = time
        self._first = first
        self._rest = rest
        self._held = held

    async def events(self) -> AsyncGenerator[Sequence[Event]]:
        """The first events, then the others as they come together, up to and with Finished.

        Raises UsageError or StepFailedError, as the model says.
        """
        batch = self._first
        while True:
            yield batch
            if isinstance(batch[-1], Finished):
                return
            batch = await _next(self._rest)

    async def aclose(self) -> None:
        """Leave the place; the model stops if it has not ended. May be called again."""
        await self._held.aclose()


@dataclass(frozen=True, slots=True)
class _Time:
    """Until when an answer has to be complete, on the event loop's clock."""

    until: float
    limit_s: float

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Raises LateError when the time is over."""
        timeout = asyncio.timeout_at(self.until)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            message = f"The answer was not complete after {self.limit_s:g} s"
            raise LateError(message, hint="ask for fewer tokens") from None


async def _next(source: AsyncGenerator[Sequence[Event]]) -> Sequence[Event]:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise StepFailedError("Triton's answer ended before it was complete") from None


@dataclass(frozen=True, slots=True)
class Desk:
    """Takes questions.

    Attributes:
        live: what serves.
        admission: who may ask it.
        answers: asks it.
        limit_s: from the question to the end of its answer, waiting included.
        metrics: count what becomes of the answers.
    """

    live: Live
    admission: Admission
    answers: Answers
    limit_s: float
    metrics: Metrics

    async def ask(self, question: Question) -> Reply:
        """Wait for a place and for the first events, which decide the status.

        Raises:
            UsageError: this bundle cannot take the question.
            BusyError, UnavailableError, LateError: no place, no slot, no time.
            StepFailedError: Triton is gone or broke off.
        """
        time = _Time(asyncio.get_running_loop().time() + self.limit_s, self.limit_s)
        serving, _ = self.live.get()
        if serving:
            _fitted(question, serving)  # refused before it waits
        async with AsyncExitStack() as stack:
            serving = await stack.enter_async_context(self.admission.place())
            source = self.answers(serving, _fitted(question, serving))
            await stack.enter_async_context(aclosing(source))
            async with time.limited():
                first = await _next(source)
            return Reply(serving, first, source, time, stack.pop_all())
        raise AssertionError("unreachable: the stack suppresses nothing")


class EventStream(StreamingResponse):
    """Server-Sent Events of a reply, which is closed in every case.

    Args:
        reply: what they tell.
        content: their bytes; it does not say what is raised.
        said: the last event's bytes for what was raised: it is too late for a status.
    """

    def __init__(
        self, reply: Reply, content: AsyncGenerator[bytes], said: Callable[[ForgeError], bytes]
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._reply = reply
        self._content = content
        self._said = said

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; then the reply is closed, whether the client took all of it or not."""
        try:
            with Leaving(scope):
                await self._send_all(send)
        except GoneError:
            pass
        except TimeoutError:  # nobody takes the last words either
            await hang_up(scope, receive)
        finally:
            await self._content.aclose()
            await self._reply.aclose()

    async def _send_all(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        last = b""
        try:
            async with self._reply.time.limited():
                await send({"type": "http.response.start", **start})
                async for data in self._content:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except ForgeError as error:
            last = self._said(error)
        async with asyncio.timeout_at(self._reply.time.until + _LAST_WORDS_S):
            await send({"type": "http.response.body", "body": last, "more_body": False})


def _fitted(question: Question, serving: Serving) -> Question:
    max_tokens = question.max_tokens or serving.default_max_tokens
    if max_tokens > serving.max_seq_len:
        message = f"max_tokens {max_tokens} is more than this bundle's {serving.max_seq_len}"
        raise UsageError(message, hint="ask for fewer")
    return replace(question, max_tokens=max_tokens)
