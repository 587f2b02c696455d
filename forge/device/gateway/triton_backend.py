"""The backend that sends requests to the Triton of the active slot."""

from __future__ import annotations

import functools
import json
import math
from contextlib import closing
from typing import TYPE_CHECKING, Final

from forge.device.gateway.backend import OnEnd
from forge.device.gateway.cancellation import Cancellations
from forge.device.gateway.errors import UnsupportedParameterError
from forge.device.gateway.model_description import ModelDescription, describe
from forge.device.gateway.triton_answer import TritonAnswer
from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError, UsageError
from forge.serving.triton.request import FORMAT_INPUT, GenerateRequest, HttpTimeouts

if TYPE_CHECKING:
    from forge.serving.triton.http_connection import UnreadLimit
    from forge.serving.triton.http_pool import TritonConnectionPool

__all__ = ["TritonBackend"]

_METADATA: Final = HttpTimeouts(connect=5.0, first=5.0, gap=5.0)
# The gateway's own deadline bounds the first event and the whole answer (generation.py).
_GENERATION: Final = HttpTimeouts(first=math.inf, total=math.inf)
# A cancelled request ends after the step under way; the prompt of 32k tokens may be one step.
_CANCEL_S: Final = 30.0
_UNREAD_BYTES: Final = 64 * 1024 * 1024
# Of Triton's events: 100 bytes around the text, which may be 16 spaces or \u escapes; the longest
# texts of single tokens, 100 characters and more, are rare.
_TOKEN_BYTES: Final = 256
_LOGPROB_BYTES: Final = 256  # of one entry, whose quotes are escaped
_EVENT_BYTES: Final = 4 * 1024 * 1024  # of the longest event: tokens of a long text, scores
_VECTORS_BYTES: Final = 32 * 1024 * 1024  # of 2,048 vectors with 2,048 numbers each


class TritonBackend:
    """A client over one pool of connections; used from one event loop only.

    Args:
        cancel_s: how long a model may take to end a cancelled request.
        most_unread: bytes of all answers, received from Triton and not read by clients.
    """

    def __init__(self, cancel_s: float = _CANCEL_S, most_unread: int = _UNREAD_BYTES) -> None:
        self._cancel_s = cancel_s
        self._most_unread = most_unread
        self._inputs_of: tuple[str, str] = "", ""
        self._inputs: dict[str, frozenset[str]] = {}  # by model, of one server
        self._described: tuple[tuple[str, str], ModelDescription] | None = None

    async def start(
        self, serving: ActiveServer, request: GenerateRequest, on_end: OnEnd
    ) -> TritonAnswer:
        """Send a request. Raises StepFailedError if Triton cannot be reached."""
        from forge.serving.triton.http_connection import Unread

        unread = Unread(_most_unread(request), self._unread)
        cancel = self._cancellations.cancel
        answer = TritonAnswer(self._pool, serving, request, unread, on_end, cancel, _GENERATION)
        await answer.send()
        return answer

    async def inputs(self, serving: ActiveServer) -> frozenset[str]:
        """Return the names of the model's inputs. Raises StepFailedError."""
        return await self._inputs_at(serving)

    async def describe(self, serving: ActiveServer) -> ModelDescription:
        """Return what the model can do, asked once for each server. Raises StepFailedError."""
        place = serving.url, serving.release.manifest
        if self._described is None or self._described[0] != place:
            known = FORMAT_INPUT in await self._inputs_at(serving)
            found = await describe(self._pool, serving) if known else ModelDescription()
            self._described = place, found
        return self._described[1]

    async def check(self, serving: ActiveServer, request: GenerateRequest) -> None:
        """Raise UsageError or UnsupportedParameterError if the model lacks an input for it."""
        needed = request.optional_inputs
        if not needed:
            return
        missing = needed - await self._inputs_at(serving)
        if FORMAT_INPUT in missing:
            raise UsageError(
                f"The model of {serving.release} takes a single user message only",
                why=f"it has no input {FORMAT_INPUT!r}, which {request.input_format!r} needs",
                hint="send one message of the user to /v1/chat/completions",
            )
        if missing:
            raise UnsupportedParameterError(min(missing))

    async def close(self) -> None:
        """Close the connections; call it in the event loop's thread."""
        if "_cancellations" in self.__dict__:
            await self._cancellations.close()
        if "_pool" in self.__dict__:
            self._pool.close()

    async def _inputs_at(self, serving: ActiveServer) -> frozenset[str]:
        """Return the names of the model's inputs, read once for each server and model."""
        place = serving.url, serving.release.manifest
        if self._inputs_of != place:
            self._inputs, self._inputs_of = {}, place
        known = self._inputs.get(serving.model)
        if known is None:
            known = await self._read_inputs(serving)
            if self._inputs_of == place:  # else another server is asked now
                self._inputs[serving.model] = known
        return known

    async def _read_inputs(self, serving: ActiveServer) -> frozenset[str]:
        url = f"{serving.url}/v2/models/{serving.model}"
        try:
            with closing(await self._pool.request("GET", url, b"", _METADATA)) as response:
                data = b"".join([piece async for piece in response])
            return frozenset(str(one["name"]) for one in json.loads(data)["inputs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"Triton does not say which inputs model {serving.model!r} has"
            why = str(error) or type(error).__name__
            raise StepFailedError(message, why=why, hint="see Triton's log") from None

    @property
    def unread_bytes(self) -> int:
        """Return the bytes that were received from Triton and not read by clients."""
        return self._unread.held

    @functools.cached_property
    def _pool(self) -> TritonConnectionPool:
        from forge.serving.triton.http_pool import TritonConnectionPool

        return TritonConnectionPool()

    @functools.cached_property
    def _unread(self) -> UnreadLimit:
        from forge.serving.triton.http_connection import UnreadLimit

        return UnreadLimit(self._most_unread)

    @functools.cached_property
    def _cancellations(self) -> Cancellations:
        return Cancellations(self._pool, self._inputs_at, self._cancel_s)


def _most_unread(request: GenerateRequest) -> int:
    """Return the bytes of Triton's events for the longest answer to a request."""
    logprobs = request.sampling.top_logprobs
    entries = 0 if logprobs is None else 1 + logprobs
    if request.input_format == "embed":
        return _VECTORS_BYTES
    return _EVENT_BYTES + (request.max_tokens or 0) * (_TOKEN_BYTES + entries * _LOGPROB_BYTES)
