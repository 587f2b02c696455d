"""Let httpx connect to servers in a network namespace of their own, see connector.py."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpcore
import httpx

from forge.serving.triton.connector import connector

__all__ = ["triton_client"]

_CONNECT_S: Final = 60.0  # if a request states no timeout


def triton_client(connections: int = 1) -> httpx.Client:
    """Return a client of models under Triton that keeps this many connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    transport = httpx.HTTPTransport(trust_env=False, limits=limits)
    # httpx has no parameter for the backend of its pool, which httpcore's pool has.
    transport._pool = httpcore.ConnectionPool(  # noqa: SLF001
        max_connections=connections,
        max_keepalive_connections=connections,
        network_backend=_Backend(),
    )
    return httpx.Client(trust_env=False, transport=transport)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        with _explained(httpcore.ConnectTimeout, httpcore.ConnectError):
            return _Stream(connector(host, port).connect(timeout or _CONNECT_S))


class _Stream(httpcore.NetworkStream):
    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _explained(httpcore.ReadTimeout, httpcore.ReadError):
            self._connected.settimeout(timeout)
            return self._connected.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _explained(httpcore.WriteTimeout, httpcore.WriteError):
            self._connected.settimeout(timeout)
            self._connected.sendall(buffer)

    def close(self) -> None:
        self._connected.close()

    def get_extra_info(self, info: str) -> Any:
        if info == "socket":
            return self._connected
        if info == "is_readable":  # of an idle connection: the server has closed it
            polled = select.poll()
            polled.register(self._connected, select.POLLIN)
            return bool(polled.poll(0))
        return None


@contextlib.contextmanager
def _explained(
    timeout: type[httpcore.TimeoutException], broken: type[httpcore.NetworkError]
) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error)) from error
    except OSError as error:
        raise broken(str(error)) from error
