"""A wire between a client and a server: counts what it carries, may be thin, and may break."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_BUFFER = 16 * 1024


@dataclass
class Wire:
    """What it does; may be changed while it is up.

    Attributes:
        bytes_per_s: of all connections together, towards the client; 0: as fast as it goes.
        drip_s: seconds between single bytes towards the client; 0: none of that.
        drips_after: so many bytes of each connection come at full speed before that.
        breaks_after: reset each connection after so many bytes towards the client; 0: never.
        carried: bytes that were handed over towards the client.
    """

    bytes_per_s: float = 0.0
    drip_s: float = 0.0
    drips_after: int = 0
    breaks_after: int = 0
    carried: int = 0
    connections: int = 0
    moments: list[tuple[float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    paid: float = 0.0

    def carry(self, count: int) -> None:
        with self.lock:
            self.carried += count
            now = time.monotonic()
            self.moments.append((now, self.carried))
            if not self.bytes_per_s:
                return
            self.paid = max(self.paid, now) + count / self.bytes_per_s
            wait = self.paid - now
        time.sleep(wait)


@contextmanager
def wire(port: int, how: Wire) -> Iterator[int]:
    """The port of a wire to 127.0.0.1:`port`."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Little is under way unseen: what left the server is what the client has, but for some kB.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    stop = threading.Event()
    threads = [threading.Thread(target=_accept, args=(listener, port, how, stop), daemon=True)]
    threads[0].start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        threads[0].join()


def _accept(listener: socket.socket, port: int, how: Wire, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            client, _ = listener.accept()
        except OSError:
            return
        how.connections += 1
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            continue
        for one in (
            threading.Thread(target=_towards_server, args=(client, server), daemon=True),
            threading.Thread(target=_towards_client, args=(server, client, how, stop), daemon=True),
        ):
            one.start()


def _towards_server(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(_BUFFER):
            server.sendall(data)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _towards_client(
    server: socket.socket, client: socket.socket, how: Wire, stop: threading.Event
) -> None:
    passed = 0
    with contextlib.suppress(OSError), server, client:
        while not stop.is_set():
            drips = bool(how.drip_s) and passed >= how.drips_after
            if not (data := server.recv(1 if drips else _BUFFER)):
                return
            if drips:
                time.sleep(how.drip_s)
            client.sendall(data)
            how.carry(len(data))
            passed += len(data)
            if how.breaks_after and passed >= how.breaks_after:
                hard = struct.pack("ii", 1, 0)  # RST instead of FIN
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
                client.shutdown(socket.SHUT_RD)  # the other thread lets go of it
                return
