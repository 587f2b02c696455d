"""The choices of one answer: each is a request to the model of its own, with its own place.

Requests of one call run in parallel, a few at a time, so that one call does not fill the
device's queue. Their events are read from one source, in the order in which they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from forge.canonical import Json
from forge.device.gateway.errors import InvalidValueError
from forge.device.gateway.generation import Deadline, Generation, GenerationService, Outcome
from forge.device.gateway.openai.stop_sequences import StopSequenceFilter
from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token, TokenLogprob

__all__ = [
    "Asked",
    "Choice",
    "GenerationGroup",
    "Said",
    "TokenCounts",
    "asked_of",
    "collect",
    "logprobs_of",
    "together",
    "usage_of",
]

_AT_ONCE: Final = 4
_ENDS: Final = ("stop", "length")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model is asked for one choice.

    Attributes:
        request: as the model gets it.
        stops: texts that end the answer here, because this model does not know the parameter.
    """

    request: GenerateRequest
    stops: tuple[str, ...] = ()


async def asked_of(
    service: GenerationService, requests: Sequence[GenerateRequest], limit_name: str
) -> tuple[Asked, ...]:
    """Return what the model is asked: a model of an earlier bundle gets no `stop`.

    Args:
        service: starts the requests later.
        requests: one for each choice; they differ in their prompts and seeds only.
        limit_name: the parameter with the most tokens of an answer.

    Raises:
        InvalidValueError: the model has no room for as many tokens.
        StepFailedError: the server does not say which inputs its model has.
    """
    stop, limit = requests[0].sampling.stop, requests[0].max_tokens
    serving, _ = service.upstream.get()
    if serving and limit and limit > serving.max_seq_len:
        raise InvalidValueError(limit_name, f"be at most {serving.max_seq_len}")
    if not stop or serving is None or "stop" in await service.backend.inputs(serving):
        return tuple(map(Asked, requests))
    return tuple(
        Asked(replace(one, sampling=one.sampling.model_copy(update={"stop": ()})), stop)
        for one in requests
    )


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Counts of tokens."""

    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Choice:
    """One choice as far as it has come.

    Attributes:
        finish_reason: "" until it is complete.
        usage: None if a stop text ended an answer of a model that does not know the parameter: it
            was stopped before it counted.
    """

    stops: tuple[str, ...] = ()
    finish_reason: str = ""
    usage: TokenCounts | None = None
    _filter: StopSequenceFilter | None = field(init=False)

    def __post_init__(self) -> None:
        self._filter = StopSequenceFilter(self.stops) if self.stops else None

    def feed(self, batch: Sequence[StreamEvent]) -> str:
        """Return the text of these events that can be shown now.

        Raises StepFailedError if the model did not complete its answer.
        """
        if self.finish_reason:  # ended here by a stop text; the model may say more
            return ""
        text = ""
        for event in batch:
            if isinstance(event, Token):
                text += self._filter.feed(event.text) if self._filter else event.text
            else:
                self.finish_reason = _reason(event)
                self.usage = TokenCounts(event.input_tokens, event.output_tokens)
                text += self._filter.rest() if self._filter else ""
        if self._filter and self._filter.hit:
            self.finish_reason = "stop"
        return text


def logprobs_of(batch: Sequence[StreamEvent]) -> list[TokenLogprob]:
    """Return the logarithms that came with these events."""
    return [one for event in batch if isinstance(event, Token) for one in event.logprobs]


def _reason(event: Finished) -> str:
    if event.finish_reason not in _ENDS:
        raise StepFailedError("The model did not complete its answer", why=event.finish_reason)
    return event.finish_reason


@dataclass(frozen=True, slots=True)
class Said:
    """A choice that is complete."""

    choice: Choice
    text: str
    logprobs: tuple[TokenLogprob, ...]
    serving: ActiveServer


async def collect(service: GenerationService, asked: Asked) -> Said:
    """Return the whole answer to one request. Raises as GenerationService.start."""
    generation = await service.start(asked.request)
    choice, text, logprobs = Choice(asked.stops), [], []
    try:
        async with generation.limited():
            while not choice.finish_reason:
                batch = await generation.next()
                text.append(choice.feed(batch))
                logprobs += logprobs_of(batch)
        await generation.aclose("complete")
    finally:
        await generation.aclose()
    return Said(choice, "".join(text), tuple(logprobs), generation.serving)


async def together(work: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """Return all results, in order; at the first error the others are cancelled."""
    if len(work) == 1:
        return [await work[0]()]
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(do: Callable[[], Awaitable[_T]]) -> _T:
        async with free:
            return await do()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(do)) for do in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class GenerationGroup:
    """Several generations that are read as one: `index` says of which the last events are.

    It has the methods of `Generation`, so that an event stream can be made of it.

    Attributes:
        serving: the server of the first events.
        until: the deadline of all, on the event loop's clock.
        index: the choice of the events that `next` returned last.
    """

    serving: ActiveServer

    def __init__(self, service: GenerationService, asked: Sequence[Asked]) -> None:
        self.until = asyncio.get_running_loop().time() + service.limit_s
        self._deadline = Deadline(self.until, service.limit_s, "The answers were", "ask for fewer")
        self.index = 0
        self._service = service
        self._events: asyncio.Queue[tuple[int, Sequence[StreamEvent]] | Exception] = asyncio.Queue()
        self._first: tuple[int, Sequence[StreamEvent]] | None = None
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._tasks = [
            asyncio.create_task(self._run(index, one)) for index, one in enumerate(asked)
        ]

    @classmethod
    async def start(cls, service: GenerationService, asked: Sequence[Asked]) -> GenerationGroup:
        """Start all; wait for the first events, which decide the HTTP status.

        Raises as GenerationService.start, for the first one that fails.
        """
        group = cls(service, asked)
        try:
            async with group.limited():
                group._first = await group._next()
        except BaseException:
            await group.aclose()
            raise
        return group

    async def next(self) -> Sequence[StreamEvent]:
        """Return the next events of one of them, whose number is `index` then."""
        if self._first:
            (self.index, batch), self._first = self._first, None
        else:
            self.index, batch = await self._next()
        return batch

    async def pump(self, _handle: Callable[[Sequence[StreamEvent]], bool], /) -> None:
        """Return at once: the events of several generations wait in one queue for `next`."""

    def limited(self) -> AbstractAsyncContextManager[None]:
        """Raise RequestTimeoutError at the deadline of all."""
        return self._deadline.enforced()

    async def aclose(self, outcome: Outcome | None = None) -> None:  # noqa: ARG002 - Generation's
        """Stop those that have not ended. May be called again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next(self) -> tuple[int, Sequence[StreamEvent]]:
        found = await self._events.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def _run(self, index: int, asked: Asked) -> None:
        try:
            async with self._free:
                generation = await self._service.start(asked.request)
                try:
                    await self._read(index, generation, Choice(asked.stops))
                finally:
                    await generation.aclose()
        except Exception as error:  # noqa: BLE001 - `next` raises it
            self._events.put_nowait(error)

    async def _read(self, index: int, generation: Generation, choice: Choice) -> None:
        self.serving = generation.serving
        async with generation.limited():
            while not choice.finish_reason:
                batch = await generation.next()
                choice.feed(batch)
                self._events.put_nowait((index, batch))
        await generation.aclose("complete")


def usage_of(choices: Sequence[Choice], draws: int) -> dict[str, Json] | None:
    """Return OpenAI's usage: a prompt counts once, however many answers it got.

    Args:
        choices: in the order of their indices.
        draws: how many of them each prompt got.
    """
    counted = [choice.usage for choice in choices]
    if any(one is None for one in counted):
        return None
    known = [one for one in counted if one]
    given = sum(one.input_tokens for one in known[::draws])
    made = sum(one.output_tokens for one in known)
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
