"""A read-only store on any web server that supports Range requests.

The server is not trusted: lengths, ranges and encodings must be those requested, redirects are not
followed, and the caller verifies the digests of the bytes. Transient faults are retried with
exponential backoff; a transfer resumes where it broke off.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import ssl
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpcore

from forge import __version__
from forge.errors import ConfigurationError, CorruptedError, NotInStoreError, StoreError
from forge.files import check_relative_path
from forge.store import cancellation
from forge.store.backends.http_pool import StoreConnectionPool
from forge.store.backends.protocol import Entry, StoreBusyError, Stored
from forge.store.backends.read_only import ReadOnly
from forge.store.backends.throttle import PROGRESS, MinimumRate, RateLimit, pause, retry_after

__all__ = ["ATTEMPTS", "WebObjects"]

ATTEMPTS: Final = 5
_ABSENT: Final = {403, 404, 410}  # buckets behind a web server return 403 for missing objects
_DENIED: Final = {401, 407}
_TRANSIENT: Final = {408, 425, 429}
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": f"forge/{__version__}"}
_T = TypeVar("_T")


class _Fault(Exception):  # noqa: N818  never leaves this module
    """A fault that may be transient."""

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class WebObjects(ReadOnly):
    """Objects below a URL.

    Args:
        url: `https://host[:port]/path`. `http:` is accepted for this machine, and for others with
            FORGE_ALLOW_HTTP=1: the data is verified, but can be read on the network.
        environment: FORGE_ALLOW_HTTP, SSL_CERT_FILE or SSL_CERT_DIR, HTTPS_PROXY, NO_PROXY.
        limit: rate limit, shared with other places.
        attempts: number of attempts for one request that makes no progress.
        minimum_rate: creates the minimum rate of one request.
        sleep: waits between attempts.

    Raises:
        ConfigurationError: the URL is not valid.
    """

    def __init__(
        self,
        url: str,
        environment: Mapping[str, str],
        *,
        limit: RateLimit | None = None,
        attempts: int = ATTEMPTS,
        minimum_rate: Callable[[], MinimumRate] = MinimumRate,
        sleep: Callable[[float], None] = cancellation.sleep,
    ) -> None:
        scheme, host = _check_url(url, environment)
        self._url = url.rstrip("/")
        self._attempts = attempts
        self._sleep = sleep
        self._connections = StoreConnectionPool(
            scheme, host, environment, limit, minimum_rate=minimum_rate
        )

    @property
    def url(self) -> str:
        """Return the URL."""
        return self._url

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""

        def get() -> Stored:
            with self._answer("GET", name) as response:
                self._require(response, name, 200)
                length = _content_length(response)
                if length is not None and length > max_bytes:
                    raise self._too_large(name, max_bytes)
                data = bytearray()
                for block in response.iter_stream():
                    data += block
                    if len(data) > max_bytes:
                        raise self._too_large(name, max_bytes)
                return Stored(bytes(data), _header(response, "etag"))

        return self._try(name, get)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""
        with contextlib.closing(self.stream(name, start, length)) as blocks:
            return b"".join(blocks)

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`."""
        done, failed = 0, 0
        while done < length:
            before = done
            try:
                for block in self._range(name, start + done, length - done):
                    done += len(block)
                    yield block
            except _Fault as fault:
                failed = 1 if done - before >= PROGRESS else failed + 1
                self._wait(name, failed, fault)

    def report_bad_copy(self, name: str) -> bool:  # noqa: ARG002
        """See `Objects.report_bad_copy`: there is one place only."""
        return False

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`; `modified` is always 0."""

        def head() -> Entry:
            with self._answer("HEAD", name) as response:
                self._require(response, name, 200)
                length = _content_length(response)
                if length is None:
                    raise self._failed(name, "the response has no Content-Length")
                return Entry(name, length, 0.0)

        try:
            return self._try(name, head)
        except NotInStoreError:
            return None

    def _range(self, name: str, start: int, length: int) -> Iterator[bytes]:
        end = start + length - 1
        with self._answer("GET", name, {"Range": f"bytes={start}-{end}"}) as response:
            self._require(response, name, 206)
            self._check_range(response, name, start, end)
            left = length
            for block in response.iter_stream():
                left -= len(block)
                if left < 0:
                    raise _Fault("the server sent more bytes than requested")
                yield block
            if left:
                raise _Fault(f"the transfer broke off {left} bytes early")

    def _check_range(self, response: httpcore.Response, name: str, start: int, end: int) -> None:
        text = _header(response, "content-range")
        found = _CONTENT_RANGE.fullmatch(text)
        if found is None or int(found[1]) != start or int(found[2]) > end:
            raise _Fault(f"requested bytes {start}-{end}, got {text[:60]!r}")
        if int(found[2]) != end:
            raise self._short(name)
        length = _content_length(response)
        if length is not None and length != end - start + 1:
            raise _Fault(f"Content-Length is {length} for a range of {end - start + 1} bytes")

    @contextlib.contextmanager
    def _answer(
        self, method: str, name: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpcore.Response]:
        """Yield the response. Network faults are raised as _Fault or StoreError."""
        url = f"{self._url}/{quote(check_relative_path(name))}"
        try:
            with self._connections.request(
                method, url, {**_HEADERS, **(headers or {})}
            ) as response:
                yield response
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            if certificate := _certificate_error(error):
                raise self._untrusted(certificate) from None
            raise _Fault(_short_text(error)) from None
        except httpcore.ProxyError as error:
            raise _Fault(f"the proxy reports {_short_text(error)}") from None

    def _require(self, response: httpcore.Response, name: str, status: int) -> None:
        """Raise unless the response has this status and its body is not encoded."""
        if response.status == status:
            encoding = _header(response, "content-encoding").lower()
            if encoding not in {"", "identity"}:
                raise self._failed(
                    name, f"the response is encoded with {encoding[:20]!r}, which was not requested"
                )
            return
        if response.status in _ABSENT:
            why = "the server returned 403" if response.status == 403 else ""  # noqa: PLR2004
            raise NotInStoreError(f"{name} is not in the store {self._url}", why=why)
        if response.status == 416:  # noqa: PLR2004
            raise self._short(name)
        if response.status in _TRANSIENT or response.status >= 500:  # noqa: PLR2004
            after_s = retry_after(_header(response, "retry-after"))
            raise _Fault(f"the server returned {response.status}", after_s)
        raise self._refused(response, name, status)

    def _refused(self, response: httpcore.Response, name: str, wanted: int) -> StoreError:
        status = response.status
        if status == 200 and wanted == 206:  # noqa: PLR2004
            hint = "use a server that supports Range requests"
            return StoreError(f"The store {self._url} does not support ranges", hint=hint)
        if 300 <= status < 400:  # noqa: PLR2004
            hint = "redirects are not followed: use the final URL of the store"
            return StoreError(
                f"The store {self._url} redirects", why=f"{name}: {status}", hint=hint
            )
        if status in _DENIED:
            hint = "a store must be readable without a password; see docs/reference/device.md"
            return StoreError(f"The store {self._url} denied access", why=str(status), hint=hint)
        return self._failed(name, f"the server returned {status}")

    def _try(self, name: str, call: Callable[[], _T]) -> _T:
        for failed in range(1, self._attempts + 1):
            try:
                return call()
            except _Fault as fault:
                self._wait(name, failed, fault)
        raise AssertionError

    def _wait(self, name: str, failed: int, fault: _Fault) -> None:
        """Wait before the next attempt, or raise StoreError after the last one."""
        if failed >= self._attempts:
            why = f"{name}: {fault}"
            hint = "check the network and the server, then run the command again: it resumes"
            what = f"The store {self._url} is unreachable"
            raise StoreBusyError(what, why=why, hint=hint, after_s=fault.after_s) from None
        self._sleep(pause(failed, fault.after_s))

    def _failed(self, name: str, why: str) -> StoreError:
        hint = "the server must send files unchanged and without a login"
        return StoreError(f"The store {self._url} failed", why=f"{name}: {why}", hint=hint)

    def _untrusted(self, why: str) -> StoreError:
        hint = "set SSL_CERT_FILE to its CA certificate; check this machine's clock with 'date -u'"
        what = f"The certificate of the store {self._url} could not be verified"
        return StoreError(what, why=why, hint=hint)

    def _too_large(self, name: str, max_bytes: int) -> CorruptedError:
        message = f"{name} in {self._url} is larger than {max_bytes} bytes"
        return CorruptedError(
            message, hint="run 'forge store verify --repair' on the origin of the store"
        )

    def _short(self, name: str) -> CorruptedError:
        message = f"{name} in {self._url} is truncated"
        return CorruptedError(
            message, hint="run 'forge store verify --repair' on the origin of the store"
        )


def _check_url(url: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return scheme and host. Raises ConfigurationError, without any secret of the URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or "@" in parts.netloc or parts.query or parts.fragment or not _has_port(url):
        hint = "use https://host/path, without user, password, query or fragment"
        raise ConfigurationError("The store URL is not valid", hint=hint)
    if ".." in unquote(parts.path).split("/") or re.search(r"[\x00-\x20\x7f-\uffff]", url):
        hint = "write it without '..' and spaces, and percent-encode other characters"
        raise ConfigurationError("The store URL is not valid", hint=hint)
    if (
        parts.scheme == "http"
        and not _loopback(host)
        and environment.get("FORGE_ALLOW_HTTP") != "1"
    ):
        message = f"http://{host} is not encrypted"
        hint = "use https://, or set FORGE_ALLOW_HTTP=1 to allow unencrypted transfers"
        raise ConfigurationError(message, hint=hint)
    return parts.scheme, host


def _has_port(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _header(response: httpcore.Response, name: str) -> str:
    wanted = name.encode()
    found = [value for key, value in response.headers if key.lower() == wanted]
    return found[0].decode("latin-1").strip() if found else ""


def _content_length(response: httpcore.Response) -> int | None:
    text = _header(response, "content-length")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None  # noqa: PLR2004


def _certificate_error(error: BaseException) -> str:
    """Return what is wrong with the certificate; empty for any other error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message or "its certificate is not valid"
        cause = cause.__cause__ or cause.__context__
    return ""


def _short_text(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
