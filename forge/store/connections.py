"""HTTP connections that a slow or silent server cannot hold, shared by threads.

httpcore, which httpx is made of, is used itself: its network backend is the one public place where
every byte passes, header bytes too, so that a least rate and a rate limit hold for all of them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import certifi
import httpcore

from forge.errors import ConfigurationError
from forge.store import stopping
from forge.store.pace import Patience, RateLimit

__all__ = ["Connections", "tls_context"]

_CONNECT_S: Final = 10.0
_MOST: Final = 16
_LIMITED_BUFFER: Final = 64 * 1024


class Connections:
    """A pool of connections to one server.

    Args:
        host: whom it is for; decides whether a proxy of the environment is used.
        environment: SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY, NO_PROXY.
        scheme: `https` or `http`.
        limit: shared with other pools, perhaps.
        patience: made anew for each request.
    """

    def __init__(
        self,
        scheme: str,
        host: str,
        environment: Mapping[str, str],
        limit: RateLimit | None,
        *,
        patience: Callable[[], Patience] = Patience,
    ) -> None:
        self._patience = patience
        self._now = threading.local()
        backend = _Backend(self._now, limit)
        # What the kernel takes off the wire before it is read is beyond the limit: keep it small.
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, _LIMITED_BUFFER)] if limit else None
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls_context(environment) if scheme == "https" else None,
            max_connections=_MOST,
            keepalive_expiry=30.0,
            network_backend=backend,
            socket_options=small,
            proxy=_proxy(scheme, host, environment),
        )
        weakref.finalize(self, self._pool.close)  # nobody closes a store

    @contextlib.contextmanager
    def ask(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[httpcore.Response]:
        """The answer to one request; its body is read in the same thread. Raises as httpcore."""
        self._now.patience = self._patience()
        times = {"connect": _CONNECT_S, "read": None, "write": _CONNECT_S, "pool": _CONNECT_S}
        with self._pool.stream(
            method, url, headers=list(headers.items()), extensions={"timeout": times}
        ) as response:
            yield response


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
    """Reads no longer than the request's patience and no faster than the limit."""

    def __init__(
        self, inner: httpcore.NetworkStream, now: threading.local, limit: RateLimit | None
    ) -> None:
        self._inner = inner
        self._now = now
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        patience: Patience = self._now.patience
        slow = f"slower than {patience.bytes_per_s} bytes a second"
        if patience.left_s <= 0:
            raise httpcore.ReadTimeout(slow)
        most = min(max_bytes, self._limit.block) if self._limit else max_bytes
        begun = time.monotonic()
        until = begun + patience.left_s
        while True:
            stopping.check()
            left_s = until - time.monotonic()
            try:
                data = self._inner.read(most, max(0.001, min(left_s, stopping.SLICE_S)))
                break
            except httpcore.ReadTimeout:
                if left_s > stopping.SLICE_S:
                    continue
                silent_s = time.monotonic() - begun
                why = f"nothing came for {silent_s:.0f} s" if silent_s >= patience.grace_s else slow
                raise httpcore.ReadTimeout(why) from None
        patience.note(time.monotonic() - begun, len(data))
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
    """TLS 1.2 or newer, with SSL_CERT_FILE, SSL_CERT_DIR or Mozilla's list of authorities.

    Raises ConfigurationError if the file holds none.
    """
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    try:
        if file or folder:
            context = ssl.create_default_context(cafile=file or None, capath=folder or None)
        else:
            context = ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        what = f"No certificate authority can be read from {file or folder}"
        hint = "set SSL_CERT_FILE to a PEM file of certificates, or unset it"
        raise ConfigurationError(what, why=error.strerror or str(error), hint=hint) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _proxy(scheme: str, host: str, environment: Mapping[str, str]) -> httpcore.Proxy | None:
    """The proxy that the environment names for this host."""
    name = f"{scheme}_proxy"
    url = environment.get(name) or environment.get(name.upper())
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    local = host in {"localhost", "127.0.0.1", "::1"}
    if not url or local or _bypassed(host, bypass):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        hint = f"set it to http://host:port, or unset it, or add {host} to NO_PROXY"
        raise ConfigurationError(f"{name.upper()} is not the URL of a proxy", hint=hint)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth)


def _bypassed(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY has the host, a domain above it, or `*`."""
    named = {one.strip().lower().lstrip(".") for one in no_proxy.split(",")} - {""}
    return "*" in named or any(host == one or host.endswith(f".{one}") for one in named)
