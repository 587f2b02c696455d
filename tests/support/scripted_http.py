"""HTTP without a server: scripted answers below httpcore's own parser, on a clock of their own."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import httpcore
import pytest

from forge.store.backends import http_pool

__all__ = ["SILENCE", "ScriptedServer", "answer"]

SILENCE = object()
"""In an answer: nothing comes until the reader gives up waiting."""


def answer(status: int, body: bytes = b"", **headers: str) -> list[object]:
    """An answer in one block. `content_length=""` leaves that header out."""
    headers = {"content_length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} Text"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    return [("\r\n".join(lines) + "\r\n\r\n").encode() + body]


class ScriptedServer:
    """Every host there is. Each request gets the next answer; after the last, connections close.

    An answer is a list of blocks, of exceptions to raise, and of SILENCE.

    Attributes:
        requests: (method, target, headers) of each request, header names in lower case.
        connects: (host, port) of each connection.
        reads: the most bytes that each read allowed.
        timeouts: how long each read would have waited.
        now: seconds; SILENCE makes them pass.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[object]) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connects: list[tuple[str, int]] = []
        self.connect_error: Exception | None = None
        self.tls_error: Exception | None = None
        self.reads: list[int] = []
        self.timeouts: list[float] = []
        self.now = 0.0

        def connect(
            _self: object, host: str, port: int, *_: object, **__: object
        ) -> httpcore.NetworkStream:
            self.connects.append((host, port))
            if self.connect_error is not None:
                raise self.connect_error
            return _Stream(self)

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
        monkeypatch.setattr(http_pool, "time", SimpleNamespace(monotonic=lambda: self.now))

    @property
    def ranges(self) -> list[str]:
        """The Range header of each request."""
        return [headers.get("range", "") for _, _, headers in self.requests]


class _Stream(httpcore.NetworkStream):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._items: list[object] = []

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        head, _, _ = buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        if not lines:
            return
        method, target, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        found = {name.lower(): value for name, value in headers.items()}
        self._server.requests.append((method, target, found))
        self._items = list(self._server.answers.pop(0)) if self._server.answers else []

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout is not None
        self._server.reads.append(max_bytes)
        self._server.timeouts.append(timeout)
        if not self._items:
            return b""
        item = self._items.pop(0)
        if item is SILENCE:
            self._items.insert(0, SILENCE)
            self._server.now += timeout
            raise httpcore.ReadTimeout
        if isinstance(item, float):  # seconds before the next block
            self._server.now += min(item, timeout)
            if item > timeout:
                self._items.insert(0, item - timeout)
                raise httpcore.ReadTimeout
            return self.read(max_bytes, timeout)
        if isinstance(item, Exception):
            raise item
        assert isinstance(item, bytes)
        if len(item) > max_bytes:
            self._items.insert(0, item[max_bytes:])
        return item[:max_bytes]

    def close(self) -> None:
        self._items = []

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,  # noqa: ARG002
        server_hostname: str | None = None,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        if self._server.tls_error is not None:
            try:  # as httpcore's own stream does
                raise self._server.tls_error
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None
