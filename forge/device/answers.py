"""Asking the Triton of the active slot, as the gateway sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias

from forge.device.live import Serving
from forge.serving.events import Event

if TYPE_CHECKING:
    import httpx

__all__ = ["Answers", "Triton"]

# serving, prompt, max_tokens → tokens as they come, then one Finished
Answers: TypeAlias = Callable[[Serving, str, int], AsyncGenerator[Event]]


class Triton:
    """Answers over one pool of connections; used from one event loop only."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def __call__(
        self, serving: Serving, prompt: str, max_tokens: int
    ) -> AsyncGenerator[Event]:
        """Ask. Closing the generator cancels the request down to the model.

        Raises:
            UsageError: the model refused the request, for example a prompt that is too long.
            StepFailedError: Triton is gone, too slow, or broke off.
        """
        from forge.serving.client import Ask, astream

        ask = Ask(serving.url, serving.model, prompt, max_tokens)
        async with aclosing(astream(ask, self._pool())) as events:
            async for event in events:
                yield event

    def _pool(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            # How many ask at once is the gateway's business, not the pool's.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
            self._client = httpx.AsyncClient(trust_env=False, limits=limits)
        return self._client
