"""A store on a web server: what each answer means, and what is asked again."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import httpcore
import pytest

from forge.errors import (
    ConfigurationError,
    CorruptedError,
    NotInStoreError,
    StoreError,
    TrustError,
)
from forge.store.backends.protocol import Entry, StoreBusyError, Stored
from forge.store.backends.throttle import PROGRESS
from forge.store.backends.web import ATTEMPTS, WebObjects
from tests.support.scripted_http import ScriptedServer, answer
from tests.support.stores import noise

URL = "https://store.example.com/prod"
Reads = Callable[[WebObjects], object]
READS: dict[str, Reads] = {
    "read": lambda objects: objects.read("x", max_bytes=100),
    "read_range": lambda objects: objects.read_range("x", 0, 10),
    "entry": lambda objects: objects.entry("x"),
}


class World:
    """A web store, its scripted server and the pauses between requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = ScriptedServer(monkeypatch)
        self.slept: list[float] = []
        self.objects = WebObjects(f"{URL}/", {}, sleep=self.slept.append)

    def answers(self, *answers: list[object]) -> WebObjects:
        self.server.answers += answers
        return self.objects


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def ranged(data: bytes, start: int, size: int = 999) -> list[object]:
    end = start + len(data) - 1
    return answer(206, data, content_range=f"bytes {start}-{end}/{size}")


@pytest.mark.parametrize(
    "url",
    [
        "https:///prod", "https://", "https://user@host/x", "https://me:hunter2@host/x",
        "https://host/x?key=hunter2", "https://host/x#hunter2", "https://host:99999/x",
        "https://host:hunter2/x", "https://host/../x", "https://host/a/%2e%2e/x",
        "https://host/a b", "https://host/a\nb", "https://host/\u00e9",
    ],
)  # fmt: skip
def test_a_url_that_is_not_valid_is_refused_and_no_secret_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL") as caught:
        WebObjects(url, {})
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True),
     ("10.0.0.1", False), ("store.example.com", False), ("localhost.example.com", False),
     ("127.0.0.1.example.com", False)],
)  # fmt: skip
def test_without_encryption_only_this_machine_is_read(host: str, *, allowed: bool) -> None:
    url = f"http://{host}:8080/x"
    assert WebObjects(url, {"FORGE_ALLOW_HTTP": "1"}).url == url
    if allowed:
        assert WebObjects(url, {}).url == url
        return
    for environment in ({}, {"FORGE_ALLOW_HTTP": "0"}, {"FORGE_ALLOW_HTTP": "true"}):
        with pytest.raises(ConfigurationError, match=host) as caught:
            WebObjects(url, environment)
        assert "FORGE_ALLOW_HTTP=1" in caught.value.hint
        assert "https://" in caught.value.hint


def test_an_object_is_read_with_its_etag(world: World) -> None:
    objects = world.answers(answer(200, b"12345", etag='"abc"'), answer(200, b"67"))
    assert objects.read("trees/x.json", max_bytes=5) == Stored(b"12345", '"abc"')
    assert objects.read("trees/x.json", max_bytes=5) == Stored(b"67", "")
    method, target, headers = world.server.requests[0]
    assert (method, target) == ("GET", "/prod/trees/x.json")
    assert headers["host"] == "store.example.com"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("forge/")
    assert "range" not in headers
    assert objects.url == URL


@pytest.mark.parametrize(
    ("name", "target"),
    [("a b", "a%20b"), ("a?b#c", "a%3Fb%23c"), ("a%2fb", "a%252fb"), ("é", "%C3%A9")],
)
def test_names_are_percent_encoded(world: World, name: str, target: str) -> None:
    world.answers(answer(200, b"")).read(name, max_bytes=0)
    assert world.server.requests[0][1] == f"/prod/{target}"


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "", "a\r\nX: y"])
def test_an_unsafe_name_is_asked_of_no_server(world: World, name: str) -> None:
    for use in (
        lambda: world.objects.read(name, max_bytes=1),
        lambda: world.objects.read_range(name, 0, 1),
        lambda: world.objects.entry(name),
    ):
        with pytest.raises(TrustError, match="Unsafe path"):
            use()
    assert world.server.connects == []


@pytest.mark.parametrize("length", ["", "6"])
def test_more_than_was_allowed_is_not_read(world: World, length: str) -> None:
    head = answer(200, content_length=length, transfer_encoding="" if length else "chunked")
    body = [b"6\r\n123456\r\n"] * 99 if not length else [b"123", b"456", b"7" * 99]
    objects = world.answers([*head, *body])
    with pytest.raises(CorruptedError, match="larger than 5 bytes") as caught:
        objects.read("x", max_bytes=5)
    assert URL in caught.value.what
    assert len(world.server.requests) == 1
    assert len(world.server.reads) <= 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_absent_object_is_said_to_be_missing(world: World, status: int) -> None:
    objects = world.answers(*[answer(status)] * 3)
    for use in (READS["read"], READS["read_range"]):
        with pytest.raises(NotInStoreError, match="x is not in the store") as caught:
            use(objects)
        assert URL in caught.value.what
        assert ("403" in caught.value.why) is (status == 403)
    assert objects.entry("x") is None
    assert len(world.server.requests) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "without a password"), (407, "without a password"), (301, "final URL"),
     (302, "final URL"), (307, "final URL"), (304, "final URL"), (400, "400"), (418, "418"),
     (204, "204")],
)  # fmt: skip
@pytest.mark.parametrize("use", READS)
def test_a_refusal_is_not_asked_again(world: World, status: int, said: str, use: str) -> None:
    objects = world.answers(answer(status, location="https://elsewhere/"))
    with pytest.raises(StoreError, match=URL) as caught:
        READS[use](objects)
    assert not isinstance(caught.value, NotInStoreError | CorruptedError | StoreBusyError)
    assert said in str(caught.value)
    assert len(world.server.requests) == 1
    assert {host for host, _ in world.server.connects} == {"store.example.com"}
    assert world.slept == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("use", READS)
def test_a_passing_fault_is_asked_again_five_times(world: World, status: int, use: str) -> None:
    objects = world.answers(*[answer(status, retry_after="7")] * 9)
    with pytest.raises(StoreBusyError, match=URL) as caught:
        READS[use](objects)
    assert caught.value.after_s == 7.0
    assert str(status) in caught.value.why
    assert caught.value.hint
    assert len(world.server.requests) == ATTEMPTS
    assert len(world.slept) == ATTEMPTS - 1
    assert world.slept[0] == 7.0


@pytest.mark.parametrize(
    "fault",
    [httpcore.ReadError("reset"), httpcore.ReadTimeout("reset"),
     httpcore.RemoteProtocolError("reset"), httpcore.ConnectError("reset")],
)  # fmt: skip
def test_a_broken_connection_is_asked_again(world: World, fault: Exception) -> None:
    objects = world.answers([fault], [b"HTTP/1.1 200 OK\r\n", fault], answer(200, b"12"))
    assert objects.read("x", max_bytes=2).data == b"12"
    assert len(world.slept) == 2
    assert world.slept[1] > world.slept[0] * 2


def test_a_server_that_cannot_be_reached_is_named_with_the_reason(world: World) -> None:
    world.server.connect_error = httpcore.ConnectError("Name or service not known")
    with pytest.raises(StoreBusyError, match=URL) as caught:
        world.objects.read("x", max_bytes=1)
    assert "Name or service not known" in caught.value.why
    assert "network" in caught.value.hint
    assert len(world.server.connects) == ATTEMPTS


def test_a_certificate_that_is_not_valid_is_not_asked_again(world: World) -> None:
    error = ssl.SSLCertVerificationError("failed")
    error.verify_message = "certificate has expired"
    world.server.tls_error = error
    with pytest.raises(StoreError, match=URL) as caught:
        world.objects.read("x", max_bytes=1)
    assert "certificate has expired" in caught.value.why
    assert "SSL_CERT_FILE" in caught.value.hint
    assert "date -u" in caught.value.hint
    assert len(world.server.connects) == 1


@pytest.mark.parametrize("encoding", ["gzip", "br"])
@pytest.mark.parametrize("use", ["read", "entry"])
def test_an_encoded_body_is_refused(world: World, encoding: str, use: str) -> None:
    objects = world.answers(answer(200, b"12", content_encoding=encoding))
    with pytest.raises(StoreError, match=encoding):
        READS[use](objects)
    identity = world.answers(answer(200, b"12", content_encoding="Identity"))
    assert READS[use](identity)


def test_a_range_is_asked_for_and_checked(world: World) -> None:
    objects = world.answers(ranged(b"45678", 4), ranged(b"9", 9))
    assert objects.read_range("x", 4, 5) == b"45678"
    assert objects.read_range("x", 9, 1) == b"9"
    assert world.server.ranges == ["bytes=4-8", "bytes=9-9"]
    assert objects.read_range("x", 9, 0) == b""
    assert len(world.server.requests) == 2


def test_a_server_without_ranges_is_said_to_have_none(world: World) -> None:
    objects = world.answers(answer(200, b"0123456789"))
    with pytest.raises(StoreError, match=URL) as caught:
        objects.read_range("x", 0, 10)
    assert "Range" in caught.value.hint
    assert len(world.server.requests) == 1


@pytest.mark.parametrize("wrong", [answer(416), answer(206, b"0123", content_range="bytes 0-3/4")])
def test_an_object_that_is_too_short_is_damaged(world: World, wrong: list[object]) -> None:
    with pytest.raises(CorruptedError, match=f"x in {URL}") as caught:
        world.answers(wrong).read_range("x", 0, 10)
    assert "verify --repair" in caught.value.hint
    assert len(world.server.requests) == 1


@pytest.mark.parametrize(
    "said", ["", "bytes 1-10/99", "bytes 0-10/99", "bytes */99", "0-9/99", "bytes 0-9/x"]
)
def test_another_range_than_was_asked_for_is_not_used(world: World, said: str) -> None:
    data = b"wrong byte" if "10" not in said else b"wrong bytes"
    objects = world.answers(answer(206, data, content_range=said), ranged(b"0123456789", 0))
    assert objects.read_range("x", 0, 10) == b"0123456789"
    assert len(world.slept) == 1


def test_a_length_that_is_not_the_range_s_is_not_used(world: World) -> None:
    bad = answer(206, b"0123", content_range="bytes 0-9/10")
    assert world.answers(bad, ranged(b"0123456789", 0)).read_range("x", 0, 10) == b"0123456789"


def test_a_transfer_goes_on_where_it_broke_off(world: World) -> None:
    data = noise(1000)
    first = [ranged(data, 0)[0][:-400], httpcore.ReadError("reset")]  # type: ignore[index]
    second = [ranged(data[600:], 600)[0][:-100], httpcore.ReadError("reset")]  # type: ignore[index]
    objects = world.answers(first, second, ranged(data[900:], 900))
    assert objects.read_range("x", 0, 1000) == data
    assert world.server.ranges == ["bytes=0-999", "bytes=600-999", "bytes=900-999"]


@pytest.mark.parametrize(("step", "fails"), [(PROGRESS, False), (PROGRESS - 1, True)])
def test_a_transfer_that_makes_progress_may_break_any_number_of_times(
    world: World, step: int, *, fails: bool
) -> None:
    data = noise(8 * PROGRESS)
    for start in range(0, len(data), step):
        whole = ranged(data[start:], start)[0]
        assert isinstance(whole, bytes)
        end = len(whole) - len(data) + start + step
        world.answers([whole[:end], httpcore.ReadError("reset")])
    if fails:
        with pytest.raises(StoreBusyError, match="reset"):
            world.objects.read_range("x", 0, len(data))
        assert len(world.server.requests) == ATTEMPTS
    else:
        assert world.objects.read_range("x", 0, len(data)) == data


def test_more_bytes_than_the_range_are_not_handed_on(world: World) -> None:
    head = answer(206, content_length="", transfer_encoding="chunked", content_range="bytes 0-9/99")
    more = [*head, b"b\r\n0123456789X\r\n0\r\n\r\n"]
    objects = world.answers(*[more] * ATTEMPTS)
    with pytest.raises(StoreBusyError, match="more"):
        objects.read_range("x", 0, 10)


def test_an_entry_is_the_length_without_a_body(world: World) -> None:
    objects = world.answers(answer(200, content_length="123"), answer(200, content_length="7"))
    assert objects.entry("x") == Entry("x", 123, 0.0)
    assert objects.size("y") == 7
    assert [method for method, _, _ in world.server.requests] == ["HEAD", "HEAD"]


def test_an_entry_without_a_length_is_an_error(world: World) -> None:
    with pytest.raises(StoreError, match=URL):
        world.answers(answer(200, content_length="")).entry("x")


def test_a_web_store_has_one_copy_and_is_read_only(world: World) -> None:
    assert not world.objects.report_bad_copy("x")
    with pytest.raises(ConfigurationError, match="written to"):
        world.objects.write("x", b"")
