"""Call an ASGI application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Echo", "Sent", "request", "scope_of"]


@dataclass
class Sent:
    """What an application sent."""

    messages: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        found: list[tuple[bytes, bytes]] = self.messages[0]["headers"]
        return {name.decode(): value.decode() for name, value in found}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Echo:
    """Answers 200 with the body that it receives; counts its calls."""

    calls: int = 0
    status: int = 200
    received: list[Message] = field(default_factory=list)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        self.received.append(message := await receive())
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": message.get("body", b"")})


def scope_of(
    path: str = "/v1/inference",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the scope of an HTTP request."""
    given = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    plain = {"type": "http", "path": path, "method": method, "headers": given}
    return {**plain, "query_string": b"", **more}


def request(app: ASGIApp, scope: Scope, messages: Iterable[Message] = ()) -> Sent:
    """Return what the application sends for a request whose body comes in these messages."""
    sent, left = Sent(), [*messages]

    async def receive() -> Message:
        return left.pop(0) if left else {"type": "http.disconnect"}

    asyncio.run(app(scope, receive, sent))  # type: ignore[arg-type]
    return sent
