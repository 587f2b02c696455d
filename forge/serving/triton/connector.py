"""Open connections to a server: on this machine's loopback, or in the server's own namespace.

Which one is a part of the server's address. A host that ends with `.netns.invalid` is the name of
the Unix socket of a sandbox (sandbox.py), which passes back a socket that is connected to a port of
the server. `.invalid` is never in the DNS (RFC 6761), so a client that does not know of namespaces
fails instead of asking another server.

    with get("http://forge-1f0c….netns.invalid:8000/v2", timeout_s=5) as response: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from forge.serving.triton.sandbox import PORT

__all__ = ["Connector", "NamespaceConnector", "TcpConnector", "connector", "get"]

_SUFFIX: Final = ".netns.invalid"
_DESCRIPTOR: Final = struct.Struct("=i")
_PEER: Final = struct.Struct("=iII")  # struct ucred: process, user, group
_FULL_S: Final = 5.0  # as long as a request to Triton may take to connect
_FULL_POLL_S: Final = 0.01


class Connector(Protocol):
    """Opens connections to one port of one server."""

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a connected socket.

        Args:
            timeout_s: seconds to wait for it; it is the socket's timeout, too.

        Raises:
            OSError: no connection; TimeoutError: not in time.
        """
        ...

    async def connect_async(self) -> socket.socket:
        """Return a connected socket that does not block. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class TcpConnector:
    """Connects over TCP, as any process of this machine can."""

    host: str
    port: int

    def connect(self, timeout_s: float) -> socket.socket:
        """See Connector, as for the one below."""
        connected = socket.create_connection((self.host, self.port), timeout_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    async def connect_async(self) -> socket.socket:  # noqa: D102
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        connecting = socket.socket(family, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connecting, (self.host, self.port))
        except BaseException:
            connecting.close()
            raise
        return connecting


@dataclass(frozen=True, slots=True)
class NamespaceConnector:
    """Gets connected sockets out of the network namespace of a server.

    Attributes:
        name: of the abstract Unix socket of its sandbox.
        port: of the server, on the loopback of the namespace.
    """

    name: str
    port: int

    @staticmethod
    def host(name: str) -> str:
        """Return the host of the URL of the server whose sandbox listens on this name."""
        return f"{name}{_SUFFIX}"

    def connect(self, timeout_s: float) -> socket.socket:
        """See Connector, as for the one below."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(timeout_s)
            until = time.monotonic() + timeout_s
            while not self._begun(asking, until):
                time.sleep(_FULL_POLL_S)
            self._ask(asking)
            connected = self._received(asking)
        connected.settimeout(timeout_s)
        return connected

    async def connect_async(self) -> socket.socket:  # noqa: D102
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            until = time.monotonic() + _FULL_S
            while not self._begun(asking, until):  # noqa: ASYNC110 - the kernel tells no one
                await asyncio.sleep(_FULL_POLL_S)
            self._ask(asking)
            answered = asyncio.Event()
            loop.add_reader(asking, answered.set)
            try:
                await answered.wait()
            finally:
                loop.remove_reader(asking)
            connected = self._received(asking)
        connected.setblocking(False)
        return connected

    def _begun(self, asking: socket.socket, until: float) -> bool:
        """Connect; return False while too many callers wait, which the kernel refuses at once.

        asyncio takes that for a connection under way, which it never is. Raises TimeoutError after
        `until`, monotonic seconds.
        """
        try:
            asking.connect(f"\0{self.name}")
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError(f"@{self.name} has too many callers") from None
            return False
        return True

    def _ask(self, asking: socket.socket) -> None:
        """Request the port, of a sandbox of this user: any process may listen on a free name."""
        found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        if _PEER.unpack(found)[1] != os.geteuid():
            raise PermissionError(f"@{self.name} is another user's socket")
        asking.sendall(PORT.pack(self.port))

    def _received(self, asking: socket.socket) -> socket.socket:
        # Not inherited by a program that is started. socket.recv_fds ignores its flags
        # in Python 3.11.
        room = socket.CMSG_LEN(_DESCRIPTOR.size)
        data, received, _, _ = asking.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        if not received:
            if not data:
                raise ConnectionError(f"@{self.name} did not answer")
            code = data[0] or errno.EMFILE  # the kernel drops what this process has no room for
            raise OSError(code, os.strerror(code))
        connected = socket.socket(fileno=_DESCRIPTOR.unpack(received[0][2])[0])
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connected.close()
            raise
        return connected


def connector(host: str, port: int) -> Connector:
    """Return what connects to a port of the server at this host of a URL."""
    if host.endswith(_SUFFIX):
        return NamespaceConnector(host.removesuffix(_SUFFIX), port)
    return TcpConnector(host, port)


@contextlib.contextmanager
def get(url: str, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
    """Yield the response to a GET.

    Args:
        url: http.
        timeout_s: seconds to wait for the connection, and each time for bytes.

    Raises:
        OSError, http.client.HTTPException: no connection, no answer, or not valid HTTP.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.sock = connector(host, port).connect(timeout_s)
        connection.request("GET", parts.path or "/")
        yield connection.getresponse()
    finally:
        connection.close()
