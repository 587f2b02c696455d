"""End requests in the model whose clients have gone, and wait until the model says so.

A model with an input `request_id` is told by a second request, `input_format` "cancel". A model of
an earlier bundle cannot be told: it learns of a closed connection with its next response, so the
connection is kept until then and its place with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from forge.device.gateway.backend import Ended
from forge.device.gateway.request_id import current_request_id
from forge.device.gateway.triton_answer import TritonAnswer
from forge.device.shared.upstream import ActiveServer
from forge.errors import ForgeError
from forge.serving.triton.client import endpoint
from forge.serving.triton.request import GenerateRequest, HttpTimeouts

if TYPE_CHECKING:
    from forge.serving.triton.http_pool import TritonConnectionPool

__all__ = ["ID_INPUT", "Cancellations"]

_log = logging.getLogger(__name__)
ID_INPUT: Final = "request_id"
# A cancel may overtake its request, so it is sent again as long as the request has not ended.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_TIMEOUTS: Final = HttpTimeouts(connect=2.0, first=2.0, gap=2.0)


class Cancellations:
    """Requests that are being ended.

    Args:
        pool: has connections besides those of the requests.
        inputs_at: returns the names of a model's inputs.
        limit_s: how long a model may take to end a request; then its connection is closed.
    """

    def __init__(
        self,
        pool: TritonConnectionPool,
        inputs_at: Callable[[ActiveServer], Awaitable[frozenset[str]]],
        limit_s: float,
    ) -> None:
        self._pool = pool
        self._inputs_at = inputs_at
        self._limit_s = limit_s
        self._tasks: set[asyncio.Task[None]] = set()

    def cancel(self, answer: TritonAnswer) -> None:
        """Begin to end the request of this answer, whose response is discarded."""
        task = asyncio.get_running_loop().create_task(self._cancel(answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close the connections of all requests that have not ended."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cancel(self, answer: TritonAnswer) -> None:
        ended: Ended = "given up"
        try:
            async with asyncio.timeout(self._limit_s):
                await self._end(answer)
            ended = "by the model"
        except TimeoutError:
            _log.warning(
                "the model did not end request %s within %g s after it was cancelled; its"
                " connection is closed",
                current_request_id(),
                self._limit_s,
            )
        finally:
            answer.hang_up(ended)

    async def _end(self, answer: TritonAnswer) -> None:
        if not await self._can_cancel(answer):
            # Its next response tells it; an answer that has begun may have one at any moment.
            await answer.response.wait_end(math.inf, or_start=True)
            return
        pause = _FIRST_PAUSE_S
        await self._tell(answer)
        while not await answer.response.wait_end(pause):
            await self._tell(answer)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _can_cancel(self, answer: TritonAnswer) -> bool:
        try:
            return ID_INPUT in await self._inputs_at(answer.serving)
        except ForgeError:
            return False

    async def _tell(self, answer: TritonAnswer) -> None:
        serving, identity = answer.serving, answer.request.request_id
        body = json.dumps(GenerateRequest(identity, input_format="cancel").body()).encode()
        url = endpoint(serving.url, serving.model)
        with suppress(OSError):  # TimeoutError too: it is sent again
            response = await self._pool.request("POST", url, body, _TIMEOUTS)
            try:
                while await response.read():
                    pass
            finally:
                response.close()
