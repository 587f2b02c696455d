"""A pool of HTTP connections with a minimum transfer rate, shared by threads.

This uses httpcore, the transport of httpx, because its network backend is the only public interface
that sees every byte, headers included, so that both rate limits apply to all of them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import certifi
import httpcore

from forge.errors import ConfigurationError
from forge.store import cancellation
from forge.store.backends.throttle import MinimumRate, RateLimit

__all__ = ["StoreConnectionPool", "tls_context"]

_CONNECT_S: Final = 10.0
_MOST: Final = 16
_LIMITED_BUFFER: Final = 64 * 1024
# Until the head of the final answer is complete; a server may send any number of `100 Continue`.
_MAX_HEAD_BYTES: Final = 256 * 1024
_MAX_HEAD_S: Final = 60.0


class StoreConnectionPool:
    """A pool of connections to one server.

    Args:
        host: name of the server; decides whether a proxy of the environment is used.
        environment: SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY, NO_PROXY.
        scheme: `https` or `http`.
        limit: maximum rate; may be shared with other pools.
        minimum_rate: creates the minimum rate of one request.
    """

    def __init__(
        self,
        scheme: str,
        host: str,
        environment: Mapping[str, str],
        limit: RateLimit | None,
        *,
        minimum_rate: Callable[[], MinimumRate] = MinimumRate,
    ) -> None:
        self._minimum_rate = minimum_rate
        self._now = threading.local()
        backend = _Backend(self._now, limit)
        # The kernel's receive buffer fills regardless of the rate limit, so keep it small.
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, _LIMITED_BUFFER)] if limit else None
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls_context(environment) if scheme == "https" else None,
            max_connections=_MOST,
            keepalive_expiry=30.0,
            network_backend=backend,
            socket_options=small,
            proxy=_proxy(scheme, host, environment),
        )
        weakref.finalize(self, self._pool.close)  # stores have no close()

    @contextlib.contextmanager
    def request(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> Iterator[httpcore.Response]:
        """Send a request and yield the response. Read its body in the same thread.

        Raises the exceptions of httpcore.
        """
        self._now.minimum_rate = self._minimum_rate()
        self._now.head = _Head(time.monotonic() + _MAX_HEAD_S)
        times = {"connect": _CONNECT_S, "read": None, "write": _CONNECT_S, "pool": _CONNECT_S}
        with self._pool.stream(
            method, url, headers=list(headers.items()), extensions={"timeout": times}
        ) as response:
            self._now.head = None
            yield response


@dataclass(slots=True)
class _Head:
    """What may still be read before the body of an answer begins."""

    until: float
    left: int = _MAX_HEAD_BYTES

    def note(self, received: int) -> None:
        """Raise httpcore.RemoteProtocolError if there was too much of it."""
        self.left -= received
        if self.left < 0:
            why = f"more than {_MAX_HEAD_BYTES // 1024} KiB before the answer's body"
            raise httpcore.RemoteProtocolError(why)
        if time.monotonic() > self.until:
            why = f"no complete head of an answer in {_MAX_HEAD_S:.0f} s"
            raise httpcore.RemoteProtocolError(why)


class _Backend(httpcore.SyncBackend):
    def __init__(self, now: threading.local, limit: RateLimit | None) -> None:
        self._now = now
        self._limit = limit

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        inner = super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(inner, self._now, self._limit)


class _Stream(httpcore.NetworkStream):
    """A stream whose reads enforce the minimum rate of the request and the rate limit."""

    def __init__(
        self, inner: httpcore.NetworkStream, now: threading.local, limit: RateLimit | None
    ) -> None:
        self._inner = inner
        self._now = now
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        minimum_rate: MinimumRate = self._now.minimum_rate
        slow = f"slower than {minimum_rate.bytes_per_s} bytes per second"
        if minimum_rate.left_s <= 0:
            raise httpcore.ReadTimeout(slow)
        most = min(max_bytes, self._limit.block) if self._limit else max_bytes
        begun = time.monotonic()
        until = begun + minimum_rate.left_s
        while True:
            cancellation.check()
            left_s = until - time.monotonic()
            try:
                data = self._inner.read(most, max(0.001, min(left_s, cancellation.SLICE_S)))
                break
            except httpcore.ReadTimeout:
                if left_s > cancellation.SLICE_S:
                    continue
                silent_s = time.monotonic() - begun
                why = f"no data for {silent_s:.0f} s" if silent_s >= minimum_rate.grace_s else slow
                raise httpcore.ReadTimeout(why) from None
        minimum_rate.note(time.monotonic() - begun, len(data))
        if self._now.head is not None:
            self._now.head.note(len(data))
        if self._limit is not None:
            self._limit.take(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        return _Stream(inner, self._now, self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def tls_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer, with SSL_CERT_FILE, SSL_CERT_DIR or Mozilla's CAs.

    Raises ConfigurationError if the file or folder has no certificate authority.
    """
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    try:
        if file or folder:
            context = ssl.create_default_context(cafile=file or None, capath=folder or None)
        else:
            context = ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        what = f"Could not read a certificate authority from {file or folder}"
        hint = "set SSL_CERT_FILE to a PEM file of certificates, or unset it"
        raise ConfigurationError(what, why=error.strerror or str(error), hint=hint) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _proxy(scheme: str, host: str, environment: Mapping[str, str]) -> httpcore.Proxy | None:
    """Return the proxy that the environment configures for this host."""
    name = f"{scheme}_proxy"
    url = environment.get(name) or environment.get(name.upper())
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    local = host in {"localhost", "127.0.0.1", "::1"}
    if not url or local or _bypassed(host, bypass):
        return None
    parts = _proxy_url(url)
    if parts is None:
        hint = f"set it to http://host:port, or unset it, or add {host} to NO_PROXY"
        raise ConfigurationError(f"{name.upper()} is not a valid proxy URL", hint=hint)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth)


def _proxy_url(url: str) -> SplitResult | None:
    """Return the parts of a proxy URL, with or without a scheme; None if it is not valid."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # no such port, or brackets without an IPv6 address
        return None
    return parts if valid else None


def _bypassed(host: str, no_proxy: str) -> bool:
    """Return whether NO_PROXY lists the host, a parent domain, or `*`."""
    named = {one.strip().lower().lstrip(".") for one in no_proxy.split(",")} - {""}
    return "*" in named or any(host == one or host.endswith(f".{one}") for one in named)
