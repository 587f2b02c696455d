"""The gateway in this process, with a scripted backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel

from forge.device.gateway.admission import Admission
from forge.device.gateway.api_keys import Keys
from forge.device.gateway.app import create_app
from forge.device.gateway.backend import OnEnd
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.gateway.connection_limits import ConnectionLimits
from forge.device.gateway.errors import UnsupportedParameterError
from forge.device.gateway.model_description import ModelDescription
from forge.device.gateway.server import http_server, listen
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.release import Release
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.errors import StepFailedError
from forge.serving.sampling import INPUT_TYPES
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token, TokenLogprob

if TYPE_CHECKING:
    from openai import OpenAI

RELEASE = Release(name="llm", version="1.0.0", profile="development", manifest="0" * 64)
SERVING = ActiveServer(
    url="http://127.0.0.1:9",
    model="llm",
    slot="a",
    release=RELEASE,
    triton="2.51.0",
    runtime={},
    default_max_tokens=16,
    max_seq_len=64,
)
NO_QUEUE = GatewayConfig(queue=QueueRules(per_place=0))


class Machine(BaseModel):
    """Stands where the hardware report goes."""

    slot: str = "a"


@dataclass
class Script:
    """What the model says: pieces, then an end or an error; `asked` is what it was asked."""

    pieces: tuple[str, ...] = ("Par", "is")
    error: Exception | None = None
    pause_s: float = 0.0
    reason: str = "stop"
    questions: list[GenerateRequest] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    closed: bool = False
    unsupported: str = ""
    tool_calls: str | None = "hermes"

    async def inputs(self, _serving: ActiveServer) -> frozenset[str]:
        known = {"text_input", "max_tokens", "input_format", *INPUT_TYPES}
        return frozenset(known - {self.unsupported})

    async def check(self, _serving: ActiveServer, request: GenerateRequest) -> None:
        if self.unsupported in request.sampling.body():
            raise UnsupportedParameterError(self.unsupported)

    async def __call__(
        self, _serving: ActiveServer, question: GenerateRequest
    ) -> AsyncGenerator[Sequence[StreamEvent]]:
        self.asked.append((question.text, question.max_tokens or 0))
        self.questions.append(replace(question, request_id=""))  # another one each time
        try:
            for piece in self.pieces:
                yield [Token(piece)]
                await asyncio.sleep(self.pause_s)
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled.set()
            raise
        if self.error:
            raise self.error
        yield [Finished(self.reason, input_tokens=5, output_tokens=len(self.pieces))]

    async def close(self) -> None:
        self.closed = True


class ScriptedAnswer:
    """What a script says, kept until it is read, in the way of TritonAnswer."""

    def __init__(self, source: AsyncGenerator[Sequence[StreamEvent]], on_end: OnEnd) -> None:
        self._said: asyncio.Queue[Sequence[StreamEvent] | Exception] = asyncio.Queue()
        self._on_end: OnEnd | None = on_end
        self._finished = False
        self._pump = asyncio.create_task(self._listen(source))

    async def next(self) -> Sequence[StreamEvent]:
        batch = await self._said.get()
        if isinstance(batch, Exception):
            raise batch
        self._finished = isinstance(batch[-1], Finished)
        return batch

    async def pump(self, handle: Callable[[Sequence[StreamEvent]], bool]) -> None:
        """Call nothing: `next` has the events."""

    def close(self) -> None:
        if self._finished:
            self._leave()
        elif not self._pump.done():
            self._pump.cancel()

    async def _listen(self, source: AsyncGenerator[Sequence[StreamEvent]]) -> None:
        try:
            async for batch in source:
                self._said.put_nowait(batch)
            self._said.put_nowait(StepFailedError("Triton's answer ended before it was complete"))
        except Exception as error:  # noqa: BLE001 - what a script raises is what `next` raises
            self._said.put_nowait(error)
        finally:
            await source.aclose()
            self._leave()

    def _leave(self) -> None:
        if self._on_end:
            on_end, self._on_end = self._on_end, None
            on_end("by the model")


@dataclass(frozen=True)
class ScriptedBackend:
    """The backend that a script is."""

    script: Script

    async def inputs(self, serving: ActiveServer) -> frozenset[str]:
        return await self.script.inputs(serving)

    async def describe(self, _serving: ActiveServer) -> ModelDescription:
        return ModelDescription(tool_calls=self.script.tool_calls)

    async def check(self, serving: ActiveServer, request: GenerateRequest) -> None:
        await self.script.check(serving, request)

    async def start(
        self, serving: ActiveServer, request: GenerateRequest, on_end: OnEnd
    ) -> ScriptedAnswer:
        return ScriptedAnswer(self.script(serving, request), on_end)

    async def close(self) -> None:
        await self.script.close()


@dataclass
class Gateway:
    """A running gateway."""

    client: httpx.Client
    upstream: Upstream
    limit: ConcurrencyLimit
    admission: Admission
    port: int

    def ask(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/inference", json=body)


@contextlib.contextmanager
def running(
    script: Script,
    config: GatewayConfig = NO_QUEUE,
    bounds: ConnectionLimits | None = None,
    keys: Keys | None = None,
) -> Iterator[Gateway]:
    upstream, limit = Upstream(), ConcurrencyLimit()
    upstream.set(SERVING)
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = create_app(upstream, ScriptedBackend(script), Machine, limit, config, keys)
    server = http_server(app, bounds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield Gateway(client, upstream, limit, app.state.admission, port)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextlib.contextmanager
def served(
    script: Script, config: GatewayConfig | None = None, key: str = "none", keys: Keys | None = None
) -> Iterator[tuple[OpenAI, Gateway]]:
    """The official client of a gateway, and the gateway."""
    from openai import OpenAI

    with running(script, config or GatewayConfig(), keys=keys) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        with OpenAI(base_url=url, api_key=key, max_retries=0, timeout=20) as client:
            yield client, gateway


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@dataclass
class Silent(Script):
    """A model that ends without saying that it ends."""

    async def __call__(self, *_: Any) -> AsyncGenerator[Sequence[StreamEvent]]:
        for piece in self.pieces:
            yield [Token(piece)]


BOS = 256


@dataclass
class ByteModel(Script):
    """A model whose tokens are bytes, 256 before every text; it scores, and says its pieces.

    The logarithm of a byte's probability is -byte/10, its likeliest alternative is "~" with -0.5.
    """

    async def __call__(
        self, serving: ActiveServer, question: GenerateRequest
    ) -> AsyncGenerator[Sequence[StreamEvent]]:
        work = {"tokenize": self._tokens, "detokenize": self._text, "score": self._scores}
        if question.input_format in work:
            self.questions.append(replace(question, request_id=""))
            yield [Token(work[question.input_format](question.text))]
            yield [Finished("done", len(json.loads(question.text)), 0)]
            return
        async for batch in super().__call__(serving, question):
            wanted = question.sampling.top_logprobs is not None
            yield [self._scored(event) if wanted else event for event in batch]

    def _tokens(self, text: str) -> str:
        asked = json.loads(text)
        if "messages" in asked:
            said = "".join(f"<{turn['role']}>{turn['content']}" for turn in asked["messages"])
            said += "<assistant>" if asked["add_generation_prompt"] else ""
            return json.dumps([BOS, *said.encode()])
        start = [BOS] if asked["add_special_tokens"] else []
        return json.dumps([*start, *asked["text"].encode()])

    def _text(self, text: str) -> str:
        pieces = ["<s>" if one == BOS else chr(one) for one in json.loads(text)]
        return "".join(pieces).encode("latin-1").decode(errors="replace")

    def _scores(self, text: str) -> str:
        return json.dumps([_entry(one) for one in json.loads(text)[1:]])

    def _scored(self, event: StreamEvent) -> StreamEvent:
        if isinstance(event, Finished):
            return event
        one, *others = event.text.encode()
        entries = [TokenLogprob(chr(byte), -byte / 10, bytes([byte])) for byte in (one, *others)]
        top = (TokenLogprob("~", -0.5, b"~"),)
        return Token(event.text, tuple(replace(entry, top=top) for entry in entries))


def _entry(byte: int) -> dict[str, Any]:
    top = {"token": "~", "logprob": -0.5, "bytes": [126]}
    return {"token": chr(byte), "logprob": -byte / 10, "bytes": [byte], "top": [top]}
