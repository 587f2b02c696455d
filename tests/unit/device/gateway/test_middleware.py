"""Middleware of the gateway: body size, API keys, Host header, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Iterator

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from forge.device.gateway.api_keys import ApiKeys
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.middleware import (
    MAX_BODY_BYTES,
    MAX_LARGE_BODIES_BYTES,
    MAX_LARGE_BODY_BYTES,
    ApiKeyMiddleware,
    BodyLimitMiddleware,
    MetricsMiddleware,
    TrustedHostMiddleware,
)
from forge.device.telemetry.metrics import Metrics
from tests.support.asgi import Echo, Sent, request, scope_of
from tests.support.gateway_app import Gateway, Script, running
from tests.support.scrape import scrape


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def gateway(script: Script) -> Iterator[Gateway]:
    with running(script) as made:
        yield made


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        head = "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {MAX_BODY_BYTES + 1}"
        connection.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


JSON = {"Content-Type": "application/json"}


def test_a_chunked_body_is_read(gateway: Gateway, script: Script) -> None:
    pieces = iter([b'{"pro', b'mpt": ', b'"France?"}'])
    response = gateway.client.post("/v1/inference", content=pieces, headers=JSON)
    assert response.json()["text"] == "Paris"
    assert script.asked == [("France?", 16)]


def test_a_chunked_body_beyond_the_limit_is_refused_while_it_comes(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        head = "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        piece = b"%x\r\n%b\r\n" % (65536, b"x" * 65536)
        for _ in range(MAX_BODY_BYTES // 65536 + 1):
            connection.sendall(piece)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")  # its end was not sent


def test_a_client_that_asks_first_is_told_to_continue_or_refused(gateway: Gateway) -> None:
    """As curl does with a long body."""
    body = b'{"prompt": "France?"}'
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    head += "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.format("/v1/inference", len(body)).encode())
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.format("/v1/inference", MAX_BODY_BYTES + 1).encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/health", "/health/live", "/health/ready", "/metrics", "/v1/hardware"]
)
def test_head_is_get_without_a_body(gateway: Gateway, path: str) -> None:
    got, head = gateway.client.get(path), gateway.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert gateway.client.get(path).status_code == 200  # on the same connection


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/llm/"),
        ("GET", "/health/"),
        ("POST", "/v1/inference/"),
        ("POST", "/v1/completions//"),
    ],
)
def test_a_trailing_slash_changes_nothing(gateway: Gateway, method: str, path: str) -> None:
    body = {"prompt": "a", **({"model": "llm"} if "compl" in path else {})}
    response = gateway.client.request(method, path, json=body if method == "POST" else None)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", 0, 400),
        ("1.1", 1, 200),
        ("1.1", 2, 400),
        ("1.0", 0, 421),
        ("1.0", 1, 200),
        ("1.0", 2, 400),
    ],
)
def test_a_request_names_its_host_once(
    gateway: Gateway, version: str, hosts: int, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        head = f"GET /v1/models HTTP/{version}\r\n" + "Host: localhost\r\n" * hosts
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        said = b""
        while data := connection.recv(4096):
            said += data
    assert said.startswith(b"HTTP/1.1 %d " % status)
    if status == 400:
        assert "Host" in json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_a_body_that_does_not_come_is_given_up() -> None:
    with running(Script(), GatewayConfig(body_s=0.3)) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            head = "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n"
            connection.sendall(head.encode() + b'{"prompt"')
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
            while connection.recv(4096):
                pass  # until it is closed
        assert gateway.ask(prompt="France?").json()["text"] == "Paris"


@pytest.mark.parametrize(("host", "status"), [
    ("localhost:8080", 200), ("LOCALHOST", 200), ("127.0.0.1:1", 200), ("[::1]:8080", 200),
    ("[::1]", 200), ("rebound.example:8080", 421), ("localhost.rebound.example", 421), ("", 421),
])  # fmt: skip
def test_a_web_page_that_calls_itself_this_machine_is_refused(host: str, status: int) -> None:
    with running(Script(), GatewayConfig()) as gateway:
        response = gateway.client.get("/v1/models", headers={"Host": host})
    assert response.status_code == status
    if status == 421:
        assert response.json()["error"]["type"] == "invalid_request_error"


KEYS = ApiKeys((("camera", hashlib.sha256(b"secret").digest()),))


def pieces(*bodies: bytes) -> list[Message]:
    """A body as a server hands it on."""
    last = len(bodies) - 1
    return [
        {"type": "http.request", "body": body, "more_body": number < last}
        for number, body in enumerate(bodies)
    ]


def limited(length: str | None, *bodies: bytes, **headers: str) -> tuple[Sent, Echo]:
    behind = Echo()
    given = headers if length is None else {"Content-Length": length, **headers}
    scope = scope_of(headers=given)
    return request(BodyLimitMiddleware(behind, 5.0), scope, pieces(*bodies)), behind


def test_a_body_that_comes_in_pieces_is_read_whole_before_the_application() -> None:
    sent, behind = limited("3", b"a", b"", b"bc")
    assert sent.body == b"abc"
    assert behind.received == pieces(b"abc")


def test_a_body_of_just_the_limit_is_read() -> None:
    sent, _ = limited(str(MAX_BODY_BYTES), bytes(MAX_BODY_BYTES))
    assert (sent.status, len(sent.body)) == (200, MAX_BODY_BYTES)


@pytest.mark.parametrize(
    "length", [str(MAX_BODY_BYTES + 1), "9" * 30, "-1", "+5", "0x10", "1e3", "1.0", " 5", ""]
)
def test_a_length_that_is_too_large_or_not_a_number_is_refused(length: str) -> None:
    sent, behind = limited(length, b"a")
    assert (sent.status, behind.calls) == (413, 0)
    assert str(MAX_BODY_BYTES) in sent.json()["error"]["message"]


CHUNKED = {"Transfer-Encoding": "chunked"}


def test_a_chunked_body_is_read_up_to_the_limit_and_no_further() -> None:
    half = bytes(MAX_BODY_BYTES // 2)
    sent, _ = limited(None, half, half, **CHUNKED)
    assert (sent.status, len(sent.body)) == (200, MAX_BODY_BYTES)
    sent, behind = limited(None, half, half, b"x", b"never read", **CHUNKED)
    assert (sent.status, behind.calls) == (413, 0)
    assert sent.headers["connection"] == "close"


LARGE = "/v1/embeddings"


def test_a_path_may_take_larger_bodies() -> None:
    app = BodyLimitMiddleware(Echo(), 5.0, {LARGE})
    half = bytes(MAX_LARGE_BODY_BYTES // 2)
    for headers in (CHUNKED, {"Content-Length": str(MAX_LARGE_BODY_BYTES)}):
        sent = request(app, scope_of(LARGE, headers=headers), pieces(half, half))
        assert (sent.status, len(sent.body)) == (200, MAX_LARGE_BODY_BYTES)
    length = {"Content-Length": str(MAX_LARGE_BODY_BYTES + 1)}
    for headers in (CHUNKED, length):
        sent = request(app, scope_of(LARGE, headers=headers), pieces(half, half, b"x"))
        assert (sent.status, sent.headers["connection"]) == (413, "close")
        assert str(MAX_LARGE_BODY_BYTES) in sent.json()["error"]["message"]
        assert "fewer inputs" in sent.json()["error"]["message"]
    sent = request(app, scope_of(headers={"Content-Length": str(MAX_BODY_BYTES + 1)}))
    assert sent.status == 413


def test_all_larger_bodies_together_are_bounded_until_they_are_answered() -> None:
    """The application of the first request sends the others: it is not answered yet."""
    found: list[tuple[int, str | None]] = []
    more = {"Transfer-Encoding": "chunked"}

    def body(size: int) -> list[Message]:
        return pieces(bytes(MAX_BODY_BYTES), bytes(size - MAX_BODY_BYTES))

    async def ask(path: str, messages: list[Message]) -> None:
        sent = Sent()

        async def receive() -> Message:
            return messages.pop(0)

        await app(scope_of(path, headers=more), receive, sent)
        found.append((sent.status, sent.headers.get("retry-after")))

    async def nested(scope: Scope, receive: Receive, send: Send) -> None:
        size = len((await receive())["body"])
        if size == 3 * MAX_BODY_BYTES:
            await ask(LARGE, body(2 * MAX_BODY_BYTES))  # fits just so
            await ask(LARGE, body(2 * MAX_BODY_BYTES + 1))
            await ask(LARGE, pieces(bytes(MAX_BODY_BYTES)))
            await ask("/v1/inference", pieces(bytes(MAX_BODY_BYTES)))
        await Response()(scope, receive, send)

    app = BodyLimitMiddleware(nested, 5.0, {LARGE}, most_large=3 * MAX_BODY_BYTES)
    for _ in range(2):  # the second time nothing is left over from the first
        found.clear()
        sent = request(app, scope_of(LARGE, headers=more), body(3 * MAX_BODY_BYTES))
        assert sent.status == 200
        assert found == [(200, None), (429, "1"), (200, None), (200, None)]


def test_nothing_is_held_for_a_large_body_that_failed_in_any_way() -> None:
    async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a fault")

    async def stalls() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    app = BodyLimitMiddleware(fails, 0.01, {LARGE}, most_large=MAX_LARGE_BODY_BYTES)
    scope = scope_of(LARGE, headers=CHUNKED)
    whole = bytes(MAX_LARGE_BODY_BYTES)
    for _ in range(3):
        assert request(app, scope, pieces(whole, b"x")).status == 413
        assert request(app, scope, pieces(whole, b"")[:1]).messages == []
        with pytest.raises(RuntimeError, match="a fault"):
            request(app, scope, pieces(whole))
        sent, first = Sent(), pieces(whole, b"")[:1]

        async def receive(first: list[Message] = first) -> Message:
            return first.pop() if first else await stalls()

        asyncio.run(app(scope, receive, sent))
        assert sent.status == 408


def test_the_bound_of_all_is_that_of_a_few_large_bodies() -> None:
    assert MAX_LARGE_BODIES_BYTES == 4 * MAX_LARGE_BODY_BYTES


@pytest.mark.parametrize("length", [None, "0"])
def test_a_request_without_a_body_is_passed_on_without_waiting_for_one(length: str | None) -> None:
    sent, behind = limited(length)
    assert (sent.status, behind.calls) == (200, 1)


def test_a_client_that_goes_before_its_body_is_not_answered() -> None:
    behind = Echo()
    first = {"type": "http.request", "body": b"a", "more_body": True}
    scope = scope_of(headers={"Content-Length": "2"})
    sent = request(BodyLimitMiddleware(behind, 5.0), scope, [first])
    assert (sent.messages, behind.calls) == ([], 0)


def test_what_comes_after_the_body_reaches_the_application() -> None:
    seen: list[str] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])

    scope = scope_of(headers={"Content-Length": "1"})
    request(BodyLimitMiddleware(app, 5.0), scope, pieces(b"a"))
    assert seen == ["http.request", "http.disconnect"]


def authorized(header: str | None, path: str = "/v1/inference") -> tuple[Sent, Echo]:
    behind = Echo()
    headers = {} if header is None else {"Authorization": header}
    return request(ApiKeyMiddleware(behind, KEYS), scope_of(path, headers=headers)), behind


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "BEARER  secret "])
def test_a_valid_key_is_let_through(header: str) -> None:
    sent, behind = authorized(header)
    assert (sent.status, behind.calls) == (200, 1)


@pytest.mark.parametrize(
    "header", [None, "", "secret", "Bearer", "Bearer ", "Bearer Secret", "Basic secret",
               "Bearersecret", "Bearer secret secret"]
)  # fmt: skip
def test_a_missing_or_wrong_key_is_refused_and_not_repeated(header: str | None) -> None:
    sent, behind = authorized(header)
    assert (sent.status, behind.calls) == (401, 0)
    assert sent.headers["www-authenticate"] == "Bearer"
    assert b"secret" not in sent.body.lower()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/health", 200),
        ("/health/other", 401),
        ("/healthy", 401),
        ("/metrics", 401),
        ("/v1/health/", 401),
    ],
)
def test_only_health_checks_need_no_key(path: str, status: int) -> None:
    assert authorized(None, path)[0].status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8080", 200),
        ("[::1]", 200),
        ("[::1]:8080", 200),
        ("::1", 421),
        ("localhost:", 421),
        ("localhost:80a", 421),
        ("evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("evil.example:localhost", 421),
        (None, 421),
    ],
)
def test_only_a_name_of_this_machine_is_answered(host: str | None, status: int) -> None:
    behind = Echo()
    app = TrustedHostMiddleware(behind, frozenset({"localhost", "[::1]"}))
    sent = request(app, scope_of(headers={} if host is None else {"Host": host}))
    assert (sent.status, behind.calls) == (status, int(status == 200))


def test_posts_are_counted_by_their_status_and_nothing_else_is() -> None:
    metrics = Metrics()
    for method, status in (("POST", 200), ("POST", 200), ("POST", 503), ("GET", 200)):
        request(MetricsMiddleware(Echo(status=status), metrics), scope_of(method=method))
    name = "forge_device_requests_total"
    numbers = scrape(metrics.render().decode())
    assert {key: value for key, value in numbers.items() if key.startswith(name)} == {
        f'{name}{{code="200"}}': 2,
        f'{name}{{code="503"}}': 1,
    }


def test_what_is_not_http_passes_all_of_them() -> None:
    behind = Echo()
    app = BodyLimitMiddleware(
        ApiKeyMiddleware(
            TrustedHostMiddleware(MetricsMiddleware(behind, Metrics()), frozenset()), KEYS
        ),
        5.0,
    )
    request(app, {"type": "lifespan"})
    assert behind.calls == 1
