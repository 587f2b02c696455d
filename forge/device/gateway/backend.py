"""What the gateway needs of the server that generates answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from forge.device.gateway.model_description import ModelDescription
from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import StreamEvent

__all__ = ["AnswerDroppedError", "Backend", "Ended", "ModelAnswer", "OnEnd"]

Ended: TypeAlias = Literal["by the model", "given up"]
OnEnd: TypeAlias = Callable[[Ended], None]
"""Called once, when a request is not in the model any more, or the gateway gives up waiting."""


class AnswerDroppedError(StepFailedError):
    """Too much of an answer was not read, so it was dropped."""

    def __init__(self) -> None:
        super().__init__(
            "The rest of the answer was dropped, because the client reads too slowly",
            hint="read the answer as it comes, or ask for fewer tokens",
        )


class ModelAnswer(Protocol):
    """The model's events of one request, kept until they are read: the model never waits."""

    async def next(self) -> Sequence[StreamEvent]:
        """Return the next events, those that arrived together; the last of all is Finished.

        Raises:
            UsageError: the model refused the request.
            AnswerDroppedError: too much was left unread.
            StepFailedError: it cannot be reached, or broke off.
        """

    async def pump(self, handle: Callable[[Sequence[StreamEvent]], bool]) -> None:
        """Call `handle` with events as they come, until it returns False; it must not raise.

        Returns also when there is nothing more, or an error, which `next` says; it may return
        without a call.
        """

    def close(self) -> None:
        """Drop what was not read and stop the model if it has not ended; returns at once.

        `OnEnd` is called when the model has ended. May be called again.
        """


class Backend(Protocol):
    """Generates answers; used from one event loop only."""

    async def inputs(self, serving: ActiveServer, /) -> frozenset[str]:
        """Return the names of the model's inputs. Raises StepFailedError."""

    async def describe(self, serving: ActiveServer, /) -> ModelDescription:
        """Return what else the model can do. Raises StepFailedError."""

    async def check(self, serving: ActiveServer, request: GenerateRequest, /) -> None:
        """Raise UsageError or UnsupportedParameterError for what the model cannot do."""

    async def start(
        self, serving: ActiveServer, request: GenerateRequest, on_end: OnEnd, /
    ) -> ModelAnswer:
        """Send a request; `on_end` is called if and only if this returns.

        Raises StepFailedError if the server cannot be reached.
        """

    async def close(self) -> None:
        """Close the connections."""
