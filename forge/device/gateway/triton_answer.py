"""One answer of a model under Triton: its events, and the end of its request in the model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from forge.device.gateway.backend import AnswerDroppedError, Ended, OnEnd
from forge.device.shared.upstream import ActiveServer
from forge.errors import ForgeError, StepFailedError
from forge.serving.triton.client import endpoint, event_parser, timed_out, unreachable
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.stream import Parser, StreamEvent

if TYPE_CHECKING:
    from forge.serving.triton.http_connection import Response, Unread
    from forge.serving.triton.http_pool import TritonConnectionPool

__all__ = ["Cancel", "TritonAnswer"]

_TIMEOUTS: Final = HttpTimeouts()
Cancel: TypeAlias = Callable[["TritonAnswer"], None]


class TritonAnswer:
    """See backend.ModelAnswer.

    Args:
        pool: has the connections.
        serving: where the model is.
        request: what it is asked.
        unread: what is kept of the answer until it is read.
        timeouts: for the connection and between two events.
        on_end: see backend.OnEnd.
        cancel: called at most once, with an answer that is closed while the model works on it: it
            ends the request there and then calls `hang_up`.

    Attributes:
        serving: where the model is.
        request: what it is asked.
        response: what is received.
    """

    response: Response

    def __init__(
        self,
        pool: TritonConnectionPool,
        serving: ActiveServer,
        request: GenerateRequest,
        unread: Unread,
        on_end: OnEnd,
        cancel: Cancel,
        timeouts: HttpTimeouts = _TIMEOUTS,
    ) -> None:
        self.serving = serving
        self.request = request
        self._pool = pool
        self._unread = unread
        self._timeouts = timeouts
        self._on_end = on_end
        self._cancel = cancel
        self._body = json.dumps(request.body()).encode()
        self._parser: Parser | None = None
        self._error: ForgeError | None = None
        self._closed = self._left = False

    async def send(self, *, fresh: bool = False) -> None:
        """Send the request. Raises StepFailedError if Triton cannot be reached."""
        url = endpoint(self.serving.url, self.serving.model)
        try:
            self.response = await self._pool.send(
                url, self._body, self._timeouts, self._unread, self, fresh=fresh
            )
        except OSError as error:
            raise self._explained(error) from None

    async def next(self) -> Sequence[StreamEvent]:
        """Return the next events. Raises as backend.ModelAnswer."""
        if self._error:
            raise self._error
        parser = self._parser or await self._head()
        batch: list[StreamEvent] = []
        while data := await self._read():
            try:
                batch.extend(parser.feed(data))
            except ForgeError as error:
                if not batch:
                    raise
                self._error = error  # after the events that came before it
            if batch:
                return batch
        parser.close()
        raise StepFailedError("Triton's answer has been read to its end")

    async def pump(self, handle: Callable[[Sequence[StreamEvent]], bool]) -> None:
        """Call `handle` with events as they come. See backend.ModelAnswer."""
        parser = self._parser
        if self._error or parser is None:
            return

        def feed(data: bytes) -> bool:
            batch: list[StreamEvent] = []
            try:
                batch.extend(parser.feed(data))
            except ForgeError as error:
                self._error = error  # raised by `next`
            return (not batch or handle(batch)) and self._error is None

        with contextlib.suppress(TimeoutError):  # `next` waits once more
            await self.response.pump(feed)

    def close(self) -> None:
        """Drop what was not read; cancel the request if the model works on it."""
        if self._closed:
            return
        self._closed = True
        response = self.response
        if response.ended:
            response.close()
            self._leave("by the model")
        elif self._parser and self._parser.finished:
            response.discard()  # the end of the response lies between here and Triton
            self._leave("by the model")
        else:
            response.discard()
            self._cancel(self)

    def hang_up(self, ended: Ended) -> None:
        """Close the connection to Triton: the request has ended, or nothing more can be done."""
        self._closed = True
        self._leave(ended)
        self.response.close()

    def response_ended(self) -> None:
        """See ResponseObserver."""
        if self._closed or not self.response.never_received:  # else `next` sends it again
            self._leave("by the model")

    def response_overran(self) -> None:
        """See ResponseObserver."""
        self._error = AnswerDroppedError()
        if not self._closed:
            self._closed = True
            self._cancel(self)

    def _leave(self, ended: Ended) -> None:
        if not self._left:
            self._left = True
            self._on_end(ended)

    async def _head(self) -> Parser:
        try:
            try:
                await self.response.head()
            except ConnectionError:
                if not self.response.never_received:
                    raise
                self.response.close()
                await self.send(fresh=True)
                await self.response.head()
        except OSError as error:
            raise self._explained(error) from None
        self._parser = event_parser(self.response.status, self.response.content_type)
        return self._parser

    async def _read(self) -> bytes:
        try:
            return await self.response.read()
        except OSError as error:
            raise self._explained(error) from None

    def _explained(self, error: OSError) -> StepFailedError:
        explain = timed_out if isinstance(error, TimeoutError) else unreachable
        return explain(self.serving.url, self.serving.model, error)
