"""Send a request to a model under Triton and stream the answer.

The gateway's client of its own for asyncio: forge/device/gateway/triton_answer.py.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

from forge.errors import StepFailedError
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.stream import Finished, Parser, StreamEvent, Token

if TYPE_CHECKING:
    import httpx

__all__ = ["answer", "endpoint", "event_parser", "stream", "timed_out", "unreachable"]

_TIMEOUTS: Final = HttpTimeouts()


def stream(
    url: str,
    model: str,
    request: GenerateRequest,
    *,
    timeouts: HttpTimeouts = _TIMEOUTS,
    client: httpx.Client | None = None,
) -> Generator[StreamEvent]:
    """Yield tokens as they come, then one Finished. Close it to stop the generation.

    Args:
        url: of the Triton server.
        model: its name there.
        request: what the model is asked.
        timeouts: how long to wait.
        client: of `triton_client`, to use again; otherwise one is made for this request.

    Raises:
        UsageError: the model refused the request.
        StepFailedError: no connection, a timeout, or an answer that broke off.
    """
    from forge.serving.triton.httpx_transport import triton_client

    with contextlib.ExitStack() as stack, _explained(url, model):
        if client is None:
            client = stack.enter_context(triton_client())
        end = time.monotonic() + timeouts.total
        sent = client.build_request(
            "POST", endpoint(url, model), json=request.body(), timeout=_httpx_timeout(timeouts)
        )
        response = stack.enter_context(contextlib.closing(client.send(sent, stream=True)))
        _shorten(response, timeouts)
        parser = event_parser(response.status_code, response.headers.get("content-type", ""))
        for data in response.iter_raw():
            _check_total(end, model, timeouts)
            yield from parser.feed(data)
        parser.close()


def answer(
    url: str, model: str, request: GenerateRequest, *, timeouts: HttpTimeouts = _TIMEOUTS
) -> tuple[str, Finished]:
    """Return the whole answer. Raises as `stream` does."""
    text: list[str] = []
    end: Finished | None = None
    with contextlib.closing(stream(url, model, request, timeouts=timeouts)) as events:
        for event in events:
            if isinstance(event, Token):
                text.append(event.text)
            else:
                end = event
    if end is None:
        raise StepFailedError("Triton's answer ended before it was complete")
    return "".join(text), end


def endpoint(url: str, model: str) -> str:
    """Return the URL to which a request for this model is sent."""
    return f"{url}/v2/models/{model}/generate_stream"


def _httpx_timeout(timeouts: HttpTimeouts) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(timeouts.gap, connect=timeouts.connect, read=timeouts.first)


def _shorten(response: httpx.Response, timeouts: HttpTimeouts) -> None:
    """Apply the shorter timeout after the first bytes; httpcore looks it up for every read."""
    response.request.extensions["timeout"]["read"] = timeouts.gap


def event_parser(status: int, content_type: str) -> Parser:
    """Return the parser of a response with this head."""
    return Parser(status, is_stream=content_type.startswith("text/event-stream"))


def _check_total(end: float, model: str, timeouts: HttpTimeouts) -> None:
    if time.monotonic() > end:
        message = f"Model {model!r} did not end its answer in {timeouts.total:.0f} s"
        raise StepFailedError(message, hint="ask for fewer tokens")


@contextlib.contextmanager
def _explained(url: str, model: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        raise timed_out(url, model, error) from None
    except httpx.HTTPError as error:
        raise unreachable(url, model, error) from None


def timed_out(url: str, model: str, error: Exception) -> StepFailedError:
    """Return the error of a model that is silent."""
    message = f"Model {model!r} did not answer in time"
    why = f"{type(error).__name__} at {url}"
    return StepFailedError(message, why=why, hint="see Triton's log")


def unreachable(url: str, model: str, error: Exception) -> StepFailedError:
    """Return the error of a server without a connection."""
    message = f"Model {model!r} cannot be reached"
    why = f"{str(error) or type(error).__name__} at {url}"
    return StepFailedError(message, why=why, hint="check that its server runs")
