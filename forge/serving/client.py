"""Asks a model under Triton and streams the answer, blocking or with asyncio."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from forge.errors import StepFailedError
from forge.serving.events import Event, Finished, Parser, Token

if TYPE_CHECKING:
    import httpx

    from forge.serving.connections import Connections

__all__ = ["Ask", "InputFormat", "Timeouts", "answer", "astream", "stream"]

# What text_input is: a user's message, a JSON list of {"role", "content"}, or text as it is
InputFormat: TypeAlias = Literal["user", "messages", "raw"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a client waits: for the connection, between two events, for the whole answer.

    The first event may take longer than a gap: the prompt is read and others may be ahead.
    """

    connect: float = 5.0
    first: float = 120.0
    gap: float = 60.0
    total: float = 600.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to one model; temperature 0 takes the likeliest token."""

    url: str
    model: str
    prompt: str
    max_tokens: int
    temperature: float = 0.0
    timeouts: Timeouts = Timeouts()
    input_format: InputFormat = "user"

    @property
    def endpoint(self) -> str:
        """URL of Triton's streaming endpoint of the model."""
        return f"{self.url}/v2/models/{self.model}/generate_stream"

    def body(self) -> dict[str, str | int | float]:
        """The request's JSON."""
        body: dict[str, str | int | float] = {
            "text_input": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        # A model without this input would take it for a parameter and ignore it.
        return body if self.input_format == "user" else body | {"input_format": self.input_format}


def stream(ask: Ask, client: httpx.Client | None = None) -> Generator[Event]:
    """Tokens as they come, then one Finished. Close it to stop the generation.

    Args:
        ask: what to ask whom.
        client: a client to use again; otherwise one is made for this request.

    Raises:
        UsageError: the model refused the request.
        StepFailedError: no connection, a timeout, or an answer that broke off.
    """
    import httpx

    with contextlib.ExitStack() as stack, _explained(ask):
        if client is None:
            client = stack.enter_context(httpx.Client(trust_env=False))
        end = time.monotonic() + ask.timeouts.total
        request = client.build_request(
            "POST", ask.endpoint, json=ask.body(), timeout=_timeout(ask.timeouts)
        )
        response = stack.enter_context(contextlib.closing(client.send(request, stream=True)))
        _shorten(response, ask.timeouts)
        parser = _parser(response.status_code, response.headers.get("content-type", ""))
        for data in response.iter_raw():
            _check_total(end, ask)
            yield from parser.feed(data)
        parser.close()


async def astream(ask: Ask, pool: Connections | None = None) -> AsyncGenerator[Sequence[Event]]:
    """`stream` for asyncio: the same events, those that came together as one, and errors.

    Args:
        ask: what to ask whom.
        pool: connections to use again; otherwise one is made for this request.
    """
    from forge.serving.connections import Connections, Patience

    times = ask.timeouts
    patience = Patience(times.connect, times.first, times.gap)
    connections = pool or Connections()
    end = time.monotonic() + times.total
    body = json.dumps(ask.body()).encode()
    try:
        with contextlib.closing(
            await connections.ask("POST", ask.endpoint, body, patience)
        ) as response:
            parser = _parser(response.status, response.kind)
            while data := await response.read():
                _check_total(end, ask)
                batch: list[Event] = []
                try:
                    batch.extend(parser.feed(data))
                finally:  # what came before an error is told before it
                    if batch:
                        yield batch
            parser.close()
    except TimeoutError as error:
        raise _late(ask, error) from None
    except OSError as error:
        raise _unreachable(ask, error) from None
    finally:
        if pool is None:
            connections.close()


def answer(ask: Ask) -> tuple[str, Finished]:
    """The whole answer. Raises as `stream` does."""
    text: list[str] = []
    end: Finished | None = None
    with contextlib.closing(stream(ask)) as events:
        for event in events:
            if isinstance(event, Token):
                text.append(event.text)
            else:
                end = event
    if end is None:
        raise StepFailedError("Triton's answer ended before it was complete")
    return "".join(text), end


def _timeout(timeouts: Timeouts) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(timeouts.gap, connect=timeouts.connect, read=timeouts.first)


def _shorten(response: httpx.Response, timeouts: Timeouts) -> None:
    """After the first bytes the shorter limit counts; httpcore looks it up for every read."""
    response.request.extensions["timeout"]["read"] = timeouts.gap


def _parser(status: int, kind: str) -> Parser:
    return Parser(status, is_stream=kind.startswith("text/event-stream"))


def _check_total(end: float, ask: Ask) -> None:
    if time.monotonic() > end:
        message = f"Model {ask.model!r} did not end its answer in {ask.timeouts.total:.0f} s"
        raise StepFailedError(message, hint="ask for fewer tokens")


@contextlib.contextmanager
def _explained(ask: Ask) -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        raise _late(ask, error) from None
    except httpx.HTTPError as error:
        raise _unreachable(ask, error) from None


def _late(ask: Ask, error: Exception) -> StepFailedError:
    message = f"Model {ask.model!r} did not answer in time"
    why = f"{type(error).__name__} at {ask.url}"
    return StepFailedError(message, why=why, hint="see Triton's log")


def _unreachable(ask: Ask, error: Exception) -> StepFailedError:
    message = f"Model {ask.model!r} cannot be asked"
    why = f"{str(error) or type(error).__name__} at {ask.url}"
    return StepFailedError(message, why=why, hint="does its server run?")
