"""Connections: which server or proxy they go to, how long a silent one is waited for, how fast."""

from __future__ import annotations

import base64
import ssl
import threading
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, StoreError
from forge.store import cancellation
from forge.store.backends.http_pool import tls_context
from forge.store.backends.throttle import MinimumRate, RateLimit
from forge.store.backends.web import WebObjects
from tests.support.scripted_http import SILENCE, ScriptedServer, answer

ALLOWED = {"FORGE_ALLOW_HTTP": "1"}
HTTP = "http://store.example.com/prod"


def connected(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str = HTTP
) -> ScriptedServer:
    server = ScriptedServer(monkeypatch, answer(200, b"1"))
    WebObjects(url, {**ALLOWED, **environment}, attempts=1).read("x", max_bytes=1)
    return server


@pytest.mark.parametrize(
    "environment",
    [
        {"HTTP_PROXY": "http://proxy:3128"},
        {"http_proxy": "http://proxy:3128"},
        {"http_proxy": "http://proxy:3128", "HTTP_PROXY": "http://other:1"},
        {"HTTP_PROXY": "proxy:3128"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ""},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "other.example.com, ,"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "tore.example.com"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "store.example.com.org"},
        {"HTTP_PROXY": "http://proxy:3128", "no_proxy": "x", "NO_PROXY": "*"},
    ],
)
def test_the_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    server = connected(monkeypatch, environment)
    assert server.connects == [("proxy", 3128)]
    assert server.requests[0][1] == f"{HTTP}/x"
    assert "proxy-authorization" not in server.requests[0][2]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HTTP_PROXY": ""},
        {"HTTPS_PROXY": "http://proxy:3128", "ALL_PROXY": "http://proxy:3128"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "*"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "store.example.com"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "x, STORE.Example.com"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"},
        {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ".example.com"},
        {"HTTP_PROXY": "http://proxy:3128", "no_proxy": "com"},
    ],
)
def test_without_a_proxy_for_this_host_the_server_is_asked(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    server = connected(monkeypatch, environment)
    assert server.connects == [("store.example.com", 80)]
    assert server.requests[0][1] == "/prod/x"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_no_proxy_is_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    server = connected(monkeypatch, {"HTTP_PROXY": "http://proxy:1"}, f"http://{host}:8000/x")
    assert server.connects == [(host.strip("[]"), 8000)]


def test_a_proxy_gets_its_password_decoded_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    server = connected(monkeypatch, {"HTTP_PROXY": "http://me:p%40ss@proxy:3128"})
    assert server.connects == [("proxy", 3128)]
    expected = base64.b64encode(b"me:p@ss").decode()
    assert server.requests[0][2]["proxy-authorization"] == f"Basic {expected}"


def test_an_encrypted_connection_through_a_proxy_is_a_tunnel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ScriptedServer(monkeypatch, answer(200, content_length=""), answer(200, b"1"))
    objects = WebObjects("https://store.example.com/x", {"HTTPS_PROXY": "http://proxy:3128"})
    assert objects.read("y", max_bytes=1).data == b"1"
    assert server.connects == [("proxy", 3128)]
    assert [request[:2] for request in server.requests] == [
        ("CONNECT", "store.example.com:443"), ("GET", "/x/y"),
    ]  # fmt: skip


def test_a_proxy_that_refuses_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    ScriptedServer(monkeypatch, answer(407))
    environment = {"HTTPS_PROXY": "http://proxy:3128"}
    with pytest.raises(StoreError, match="proxy") as caught:
        WebObjects("https://host/x", environment, attempts=1).read("y", max_bytes=1)
    assert "407" in caught.value.why


@pytest.mark.parametrize(
    "url",
    ["ftp://proxy:1", "socks5://proxy:1", "http://", "http://:3128", "http://proxy:99999",
     "proxy:port", "http://[::1"],
)  # fmt: skip
def test_a_proxy_url_that_is_not_valid_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HTTP_PROXY") as caught:
        WebObjects(HTTP, {**ALLOWED, "HTTP_PROXY": url})
    assert "store.example.com" in caught.value.hint
    assert "NO_PROXY" in caught.value.hint


def test_requests_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ScriptedServer(monkeypatch, *[answer(200, b"1")] * 3)
    objects = WebObjects(HTTP, ALLOWED)
    for _ in range(3):
        assert objects.read("x", max_bytes=1).data == b"1"
    assert len(server.connects) == 1


@pytest.mark.parametrize("begin", [[], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"123"]])
def test_a_silent_server_is_given_up_after_half_a_minute(
    monkeypatch: pytest.MonkeyPatch, begin: list[object]
) -> None:
    server = ScriptedServer(monkeypatch, [*begin, SILENCE])
    with pytest.raises(StoreError, match="for 30 s"):
        WebObjects(HTTP, ALLOWED, attempts=1).read("x", max_bytes=9)
    assert 30 <= server.now < 31
    assert max(server.timeouts) <= cancellation.SLICE_S


def test_one_byte_every_20_s_is_given_up_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[object] = [
        one for number in range(99) for one in (20.0, b"HTTP/1.1 200 OK"[number % 9 :][:1])
    ]
    server = ScriptedServer(monkeypatch, slow)
    with pytest.raises(StoreError, match="4096 bytes"):
        WebObjects(HTTP, ALLOWED, attempts=1).read("x", max_bytes=9)
    assert server.now < 60


def test_a_slow_server_at_the_minimum_rate_is_read_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(4096 * 200)
    body: list[object] = []
    for at in range(0, len(data), 4096):
        body += [1.0, data[at : at + 4096]]
    head = answer(200, content_length=str(len(data)))
    server = ScriptedServer(monkeypatch, [*head, *body])
    assert WebObjects(HTTP, ALLOWED, attempts=1).read("x", max_bytes=len(data)).data == data
    assert server.now == 200.0


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_interim_answers_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ScriptedServer(monkeypatch, [INTERIM * 1000] * 100_000)
    with pytest.raises(StoreError, match="more than 256 KiB before the answer's body"):
        WebObjects(HTTP, ALLOWED, attempts=1).read("x", max_bytes=1)
    assert len(server.reads) < 300


def test_interim_answers_that_come_slowly_are_given_up_in_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ScriptedServer(monkeypatch, [1.0, INTERIM * 165] * 1000)
    with pytest.raises(StoreError, match="no complete head of an answer in 60 s"):
        WebObjects(HTTP, ALLOWED, attempts=1).read("x", max_bytes=1)
    assert server.now <= 61


def test_a_few_interim_answers_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    ScriptedServer(monkeypatch, [INTERIM, early, *answer(200, b"1")])
    assert WebObjects(HTTP, ALLOWED, attempts=1).read("x", max_bytes=1).data == b"1"


def test_a_body_is_not_counted_as_head(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"b" * 400_000
    ScriptedServer(monkeypatch, [*answer(200, content_length="400000"), 50.0, body])
    rate = lambda: MinimumRate(grace_s=100.0)  # noqa: E731
    read = WebObjects(HTTP, ALLOWED, attempts=1, minimum_rate=rate).read("x", max_bytes=400_000)
    assert read.data == body


def test_each_request_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = [20.0, *answer(200, b"1")]
    server = ScriptedServer(monkeypatch, *[one] * 5)
    objects = WebObjects(HTTP, ALLOWED, attempts=1)
    for _ in range(5):
        assert objects.read("x", max_bytes=1).data == b"1"
    assert server.now == 100.0


def test_waiting_ends_within_a_slice_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    class Stopping(ScriptedServer):
        """Sets the event after ten slices of silence."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "now" and isinstance(value, float) and value >= 10:
                stop.set()

    server = Stopping(monkeypatch, [SILENCE])
    with cancellation.until(stop), pytest.raises(cancellation.CancelledError):
        WebObjects(HTTP, ALLOWED).read("x", max_bytes=1)
    assert 10 <= server.now <= 11
    assert len(server.requests) == 1


def test_a_rate_limit_bounds_each_read_and_counts_every_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(10_000)
    whole = answer(200, data)
    server = ScriptedServer(monkeypatch, whole)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        server.now += seconds

    limit = RateLimit(16_000, clock=lambda: server.now, sleep=sleep)
    WebObjects(HTTP, ALLOWED, limit=limit).read("x", max_bytes=len(data))
    assert set(server.reads) == {2000}
    assert isinstance(whole[0], bytes)
    assert sum(slept) == pytest.approx(len(whole[0]) / 16_000)  # headers, too


def test_the_time_of_a_rate_limit_does_not_count_as_slowness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(200_000)
    server = ScriptedServer(monkeypatch, answer(200, data))

    def sleep(seconds: float) -> None:
        server.now += seconds

    limit = RateLimit(1024, clock=lambda: server.now, sleep=sleep)
    found = WebObjects(HTTP, ALLOWED, limit=limit, attempts=1).read("x", max_bytes=len(data))
    assert found.data == data
    assert server.now > 190


def test_a_certificate_is_always_checked() -> None:
    context = tls_context({})
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 50


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "folder"])
def test_a_file_without_certificates_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ca.pem"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "no certificate\n")
    with pytest.raises(ConfigurationError, match=str(path)) as caught:
        tls_context({"SSL_CERT_FILE": str(path)})
    assert "SSL_CERT_FILE" in caught.value.hint
    assert caught.value.why


def test_a_folder_of_certificates_replaces_the_default_ones(tmp_path: Path) -> None:
    assert tls_context({"SSL_CERT_DIR": str(tmp_path)}).get_ca_certs() == []
