"""One question's way: a place, the model's events, a time limit, and an end in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from forge.device.admission import Admission
from forge.device.answers import Answers, Question
from forge.device.callers import hang_up
from forge.device.live import Live, Serving
from forge.device.metrics import Metrics
from forge.device.refusals import LateError
from forge.errors import StepFailedError, UsageError
from forge.serving.events import Event, Finished

__all__ = ["CLIENT_GONE", "Desk", "EventStream", "Reply", "unless_gone"]

CLIENT_GONE: Final = 499  # nobody reads it
_LAST_WORDS_S: Final = 1.0  # to say that the time is over
_T = TypeVar("_T")


class Reply:
    """An answer that has begun; holds its place until it is closed.

    Attributes:
        serving: what answers.
    """

    def __init__(
        self, serving: Serving, first: Sequence[Event], rest: _Timed, held: AsyncExitStack
    ) -> None:
        self.serving = serving
        self._first = first
        self._rest = rest
        self._held = held

    @property
    def until(self) -> float:
        """When its time is over, on the event loop's clock."""
        return self._rest.until

    async def events(self) -> AsyncGenerator[Sequence[Event]]:
        """The first events, then the others as they come together, up to and with Finished.

        Raises:
            UsageError, StepFailedError: as the model says.
            LateError: the time is over.
        """
        batch = self._first
        while True:
            yield batch
            if isinstance(batch[-1], Finished):
                return
            batch = await self._rest.next()

    async def aclose(self) -> None:
        """Leave the place; the model stops if it has not ended. May be called again."""
        await self._held.aclose()


@dataclass(frozen=True, slots=True)
class _Timed:
    source: AsyncGenerator[Sequence[Event]]
    until: float
    limit_s: float

    async def next(self) -> Sequence[Event]:
        try:
            async with asyncio.timeout_at(self.until):
                return await anext(self.source)
        except TimeoutError:
            message = f"The answer was not complete after {self.limit_s:g} s"
            raise LateError(message, hint="ask for fewer tokens") from None
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
        until = asyncio.get_running_loop().time() + self.limit_s
        serving, _ = self.live.get()
        if serving:
            _fitted(question, serving)  # refused before it waits
        async with AsyncExitStack() as stack:
            serving = await stack.enter_async_context(self.admission.place())
            source = self.answers(serving, _fitted(question, serving))
            await stack.enter_async_context(aclosing(source))
            rest = _Timed(source, until, self.limit_s)
            first = await rest.next()
            return Reply(serving, first, rest, stack.pop_all())
        raise AssertionError("unreachable: the stack suppresses nothing")


class EventStream(StreamingResponse):
    """Server-Sent Events of a reply, which is closed even if the client left before the first."""

    def __init__(self, reply: Reply, content: AsyncGenerator[bytes]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._reply = reply
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; then the reply is closed, whether the client took all of it or not."""
        try:
            async with asyncio.timeout_at(self._reply.until + _LAST_WORDS_S):
                await super().__call__(scope, receive, send)
        except TimeoutError:  # nobody takes the last words either
            await hang_up(scope, receive)
        finally:
            await self._content.aclose()
            await self._reply.aclose()


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result, or None when the client went away; then the work is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                return await task  # it may have been done in this very moment
            return None
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    """Ends when the client has left; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _fitted(question: Question, serving: Serving) -> Question:
    max_tokens = question.max_tokens or serving.default_max_tokens
    if max_tokens > serving.max_seq_len:
        message = f"max_tokens {max_tokens} is more than this bundle's {serving.max_seq_len}"
        raise UsageError(message, hint="ask for fewer")
    return replace(question, max_tokens=max_tokens)
