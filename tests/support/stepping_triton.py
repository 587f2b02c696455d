"""A server where Triton would be, whose model computes one prompt at a time, as an engine does.

Requests are computed in the order in which they came. A request that is cancelled before its prompt
was begun is never computed; one that is being computed ends after its step.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SteppingTriton"]

INPUTS = ("text_input", "max_tokens", "temperature", "input_format")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(eq=False)
class _Request:
    """One request that is in the model."""

    text: str
    identity: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    cancelled: bool = False

    @property
    def gone(self) -> bool:
        """As is_cancelled, which a model asks at each response."""
        return self.reader.at_eof() or self.writer.is_closing()


@dataclass
class SteppingTriton:
    """The server and its model; what is in it and what it has computed may be read at any time.

    Attributes:
        prefill_s: to compute one prompt, for which all others wait.
        words: of each answer, `max_tokens` at most.
        pause_s: after each word.
        word: each of them.
        can_cancel: whether the model has the input request_id and obeys a cancel.
        deaf_to: how many cancels are lost.
        ends: whether a cancelled request ever ends.
        inside: requests in the model.
        computed: texts whose prompt was computed.
        ended: texts and reasons of requests that have ended.
        connections: how many were opened.
        peak: most requests that were in the model at once.
    """

    prefill_s: float = 0.0
    words: int = 3
    pause_s: float = 0.0
    word: str = "word "
    can_cancel: bool = True
    deaf_to: int = 0
    ends: bool = True
    inside: list[_Request] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0
    peak: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve from a thread; gives the URL."""
        ready, urls = threading.Event(), []
        loop = asyncio.new_event_loop()

        async def serve() -> None:
            self._engine, self._stop = asyncio.Lock(), asyncio.Event()
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
            urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ready.set()
            await self._stop.wait()
            server.close()
            tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # for transports to close

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        ready.wait()
        try:
            yield urls[0]
        finally:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join()
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    self._say_inputs(writer)
                    continue
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                body = json.loads(await reader.readexactly(length))
                if body.get("input_format") == "cancel":
                    self._cancel(body["text_input"])
                    writer.write(_HEAD + self._end("cancelled", 0) + b"0\r\n\r\n")
                else:
                    await self._answer(body, reader, writer)
                await writer.drain()
        writer.close()

    def _say_inputs(self, writer: asyncio.StreamWriter) -> None:
        names = (*INPUTS, *(("request_id",) if self.can_cancel else ()))
        body = json.dumps({"inputs": [{"name": name} for name in names]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _cancel(self, identity: str) -> None:
        if self.deaf_to:
            self.deaf_to -= 1
            return
        for request in self.inside:
            if request.identity == identity:
                request.cancelled = self.can_cancel

    async def _answer(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = _Request(body["text_input"], body.get("request_id", ""), reader, writer)
        self.inside.append(request)
        self.peak = max(self.peak, len(self.inside))
        reason = "gone"
        try:
            async with self._engine:
                if not request.cancelled:
                    await asyncio.sleep(self.prefill_s)
                    self.computed.append(request.text)
            writer.write(_HEAD)
            reason, said = await self._words(request, min(self.words, body["max_tokens"]))
        finally:
            self.inside.remove(request)
            self.ended.append((request.text, reason))
        writer.write(self._end(reason, said) + b"0\r\n\r\n")

    async def _words(self, request: _Request, most: int) -> tuple[str, int]:
        word = _chunk({"text_output": self.word})
        for said in range(most):
            if request.gone:
                raise ConnectionError
            if request.cancelled and self.ends:
                return "cancelled", said
            request.writer.write(word)
            if self.pause_s or not said % 32:
                await request.writer.drain()
                await asyncio.sleep(0)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
        while request.cancelled and not self.ends:
            await asyncio.sleep(0.05)
            if request.gone:
                raise ConnectionError
        return ("cancelled" if request.cancelled else "length"), most

    def _end(self, reason: str, said: int) -> bytes:
        counts = {"input_tokens": 1, "output_tokens": said}
        return _chunk({"text_output": "", "finish_reason": reason, **counts})


def _chunk(event: dict[str, Any]) -> bytes:
    head = {"model_name": "llm", "model_version": "1"}
    data = b"data: " + json.dumps(head | event, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


if __name__ == "__main__":
    with SteppingTriton(words=int(sys.argv[1]), pause_s=float(sys.argv[2])).running() as address:
        print(address, flush=True)  # noqa: T201 - how the parent learns of it
        sys.stdin.read()
