"""A stream of events to one client: its order, its end, and that the model's place is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from forge.device.gateway import sse
from forge.device.gateway.admission import Admission
from forge.device.gateway.backend import OnEnd
from forge.device.gateway.disconnect import DISCONNECT_EXTENSION, CancelOnDisconnect
from forge.device.gateway.generation import GenerationService
from forge.device.gateway.sse import EventStream
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.device.telemetry.metrics import Metrics
from forge.errors import ForgeError, StepFailedError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token
from tests.support.asgi import Sent
from tests.support.gateway_app import SERVING, Script, ScriptedAnswer, ScriptedBackend
from tests.support.scrape import scrape


@dataclass
class Encoder:
    """Writes texts as they are; `quiet` texts give nothing to send, `last` ends the answer."""

    quiet: str = ""
    last: str = ""
    finished: bool = False

    def start(self) -> bytes:
        return b"<"

    def feed(self, batch: Sequence[StreamEvent]) -> bytes:
        texts = [one.text for one in batch if isinstance(one, Token) and one.text != self.quiet]
        self.finished = isinstance(batch[-1], Finished) or self.last in texts
        return "".join(texts).encode()

    def end(self) -> bytes:
        return b">"

    def error(self, error: ForgeError, /) -> bytes:
        return f"!{error.what}".encode()


@dataclass
class Connection:
    """A client's connection, which may be lost, and whose transport may be aborted."""

    lost: bool = False
    on_disconnect: set[CancelOnDisconnect] = field(default_factory=set)
    aborted: bool = False

    pieces: list[bytes] = field(default_factory=list)
    takes: int = 1000  # pieces, before the client is slow

    def write_piece(self, data: bytes) -> bool:
        if len(self.pieces) == self.takes:
            return False
        self.pieces.append(data)
        return True

    def cut(self, limit: str) -> None:
        assert limit == "time"
        self.aborted = True

    def lose(self) -> None:
        for one in tuple(self.on_disconnect):
            one.cancel()


@dataclass
class Stream:
    """One answer that is streamed; `observe` is called with each message before it is sent."""

    script: Script
    encoder: Encoder = field(default_factory=Encoder)
    connection: Connection = field(default_factory=Connection)
    limit_s: float = 60.0
    observe: Callable[[Message], Any] = lambda _message: None
    upstream: Upstream = field(default_factory=Upstream)
    metrics: Metrics = field(default_factory=Metrics)
    sent: Sent = field(default_factory=Sent)
    backend: type[ScriptedBackend] = ScriptedBackend

    def run(self) -> list[bytes]:
        """Return the bodies that were sent."""
        asyncio.run(self._run(), debug=True)
        assert self.upstream.under_way == 0  # however it ended
        return [one["body"] for one in self.sent.messages[1:]]

    async def _run(self) -> None:
        self.upstream.set(SERVING)
        queue = Admission(self.upstream, ConcurrencyLimit(1, "one"))
        service = GenerationService(
            self.upstream, queue, self.backend(self.script), self.limit_s, self.metrics
        )
        scope = {"extensions": {DISCONNECT_EXTENSION: {"connection": self.connection}}}
        async with asyncio.timeout(10):
            generation = await service.start(GenerateRequest("a"))
            await EventStream(generation, self.encoder)(scope, self.receive, self.send)
            # The model has ended when it has a place for the next one.
            (await queue.enter()).leave()

    async def send(self, message: Message) -> None:
        if (waits := self.observe(message)) is not None:
            await waits
        await self.sent(message)

    async def receive(self) -> Message:
        return {"type": "http.disconnect"}

    def outcomes(self) -> dict[str, float]:
        start, end = 'forge_device_request_seconds_count{outcome="', '"}'
        numbers = scrape(self.metrics.render().decode())
        found = {name: value for name, value in numbers.items() if name.startswith(start)}
        return {name[len(start) : -len(end)]: value for name, value in found.items() if value}


class PumpedAnswer(ScriptedAnswer):
    """Hands events over in the way of TritonAnswer, from a callback."""

    async def pump(self, handle: Callable[[Sequence[StreamEvent]], bool]) -> None:
        going = True
        while going:
            batch = await self._said.get()
            if isinstance(batch, Exception):
                self._said.put_nowait(batch)  # `next` raises it
                return
            self._finished = isinstance(batch[-1], Finished)
            going = handle(batch)


class PumpedBackend(ScriptedBackend):
    """The backend of such answers."""

    async def start(
        self, serving: ActiveServer, request: GenerateRequest, on_end: OnEnd
    ) -> PumpedAnswer:
        return PumpedAnswer(self.script(serving, request), on_end)


def test_events_that_are_handed_over_are_written_at_once_and_the_end_is_sent() -> None:
    stream = Stream(Script(("a", "b", "?", "c")), Encoder(quiet="?"), backend=PumpedBackend)
    assert stream.run() == [b"<a", b">"]
    assert stream.connection.pieces == [b"b", b"c"]
    assert stream.outcomes() == {"complete": 1}


@pytest.mark.parametrize("takes", [0, 1, 2])
def test_what_a_slow_client_does_not_take_is_sent_when_it_does(takes: int) -> None:
    connection = Connection(takes=takes)
    stream = Stream(Script(("a", "b", "c", "d")), connection=connection, backend=PumpedBackend)
    sent: list[bytes] = []

    def observe(message: Message) -> None:
        sent.extend(connection.pieces)
        connection.pieces.clear()
        connection.takes = 0
        sent.append(message.get("body", b""))

    stream.observe = observe
    stream.run()
    assert b"".join(sent) == b"<abcd>"


@pytest.mark.parametrize("error", [StepFailedError("Triton ended"), ZeroDivisionError()])
def test_an_error_while_events_are_handed_over_ends_the_answer(error: Exception) -> None:
    class Wrong(Encoder):
        def feed(self, batch: Sequence[StreamEvent]) -> bytes:
            if batch == [Token("b")]:
                raise error
            return super().feed(batch)

    stream = Stream(Script(("a", "b", "c"), pause_s=0.01), Wrong(), backend=PumpedBackend)
    if isinstance(error, ForgeError):
        assert stream.run() == [b"<a", b"!Triton ended"]
        assert stream.outcomes() == {"error": 1}
    else:
        with pytest.raises(ZeroDivisionError):
            stream.run()


def test_each_token_is_sent_as_it_comes_and_the_last_message_ends_the_answer() -> None:
    stream = Stream(Script())
    assert stream.run() == [b"<Par", b"is", b">"]
    head, *bodies = stream.sent.messages
    assert (head["type"], head["status"]) == ("http.response.start", 200)
    assert dict(head["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert dict(head["headers"])[b"cache-control"] == b"no-store"
    assert [one["more_body"] for one in bodies] == [True, True, False]
    assert stream.outcomes() == {"complete": 1}


def test_what_gives_no_bytes_is_not_sent() -> None:
    """An empty body would be a write for nothing, and the end of a chunked answer in HTTP/1.1."""
    assert Stream(Script(("a", "?", "b")), Encoder(quiet="?")).run() == [b"<a", b"b", b">"]


def test_the_place_is_free_before_the_client_sees_the_end() -> None:
    stream = Stream(Script())
    under_way: list[int] = []
    stream.observe = lambda _message: under_way.append(stream.upstream.under_way)
    stream.run()
    assert under_way == [1, 1, 1, 0]


def test_an_encoder_that_has_enough_stops_the_model() -> None:
    script = Script(("a", "b", "c"), pause_s=0.05)
    stream = Stream(script, Encoder(last="b"))
    assert stream.run() == [b"<a", b"b>"]
    assert script.cancelled.is_set()
    assert stream.outcomes() == {"complete": 1}


def test_an_error_after_the_first_token_is_the_last_event() -> None:
    stream = Stream(Script(error=StepFailedError("Triton ended")))
    assert stream.run() == [b"<Par", b"is", b"!Triton ended"]
    assert not stream.sent.messages[-1]["more_body"]
    assert stream.outcomes() == {"error": 1}


def test_an_answer_beyond_its_deadline_ends_with_an_error_event() -> None:
    script = Script(("a", "b"), pause_s=60)
    stream = Stream(script, limit_s=0.05)
    first, last = stream.run()
    assert first == b"<a"
    assert b"not complete" in last
    assert stream.outcomes() == {"error": 1}


def test_nothing_is_sent_to_a_client_that_has_gone_before() -> None:
    script = Script(("a", "b"))
    stream = Stream(script, connection=Connection(lost=True))
    assert stream.run() == []
    assert stream.sent.messages == []
    assert script.cancelled.is_set()
    assert stream.outcomes() == {"cancelled": 1}


def test_a_client_that_goes_during_the_answer_cancels_the_model() -> None:
    script = Script(("a", "b"), pause_s=60)
    stream = Stream(script)

    def observe(message: Message) -> None:
        if message.get("body"):
            asyncio.get_running_loop().call_soon(stream.connection.lose)

    stream.observe = observe
    assert stream.run() == [b"<a"]
    assert script.cancelled.is_set()
    assert stream.outcomes() == {"cancelled": 1}
    assert stream.connection.on_disconnect == set()


def test_a_client_that_reads_nothing_is_cut_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "_FINAL_EVENT_S", 0.0)
    stream = Stream(Script(), limit_s=0.05)
    stream.observe = lambda message: asyncio.sleep(60) if "body" in message else None
    assert stream.run() == []
    assert stream.connection.aborted


def test_a_mistake_of_the_encoder_is_not_hidden_and_leaves_the_place() -> None:
    class Wrong(Encoder):
        def end(self) -> bytes:
            raise ZeroDivisionError

    stream = Stream(Script(), Wrong())
    with pytest.raises(ZeroDivisionError):
        stream.run()
    assert stream.upstream.under_way == 0
