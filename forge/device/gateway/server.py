"""The uvicorn server and the listening socket of the gateway."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast

from forge.device.shared.signals import StopAskedError, ask_to_stop, no_signals
from forge.errors import StepFailedError, UsageError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from forge.device.gateway.connection_limits import ConnectionLimits

__all__ = ["http_server", "listen", "serve_in_background"]

_GRACE_S: Final = 5
_BACKLOG: Final = 2048  # uvicorn's own
_SEND_BUFFER_BYTES: Final = 128 * 1024  # Linux reserves twice that, for its own data too


def http_server(app: ASGIApp, bounds: ConnectionLimits | None = None) -> uvicorn.Server:
    """Return the server of the gateway; `run` it in a thread.

    Args:
        app: the gateway.
        bounds: limits on its connections; the default depends on RLIMIT_NOFILE.
    """
    import uvicorn

    from forge.device.gateway.connection_limits import ConnectionLimits, LimitedConnection

    bounds = bounds or ConnectionLimits.here()
    config = uvicorn.Config(
        app,
        log_config=None,  # its messages go to the handler of the agent's log
        log_level="warning",
        access_log=False,
        # uvloop raised at its end, in a thread, for connections that were still open.
        loop="asyncio",
        http=cast(
            "type[LimitedConnection]", functools.partial(LimitedConnection, bounds)
        ),  # it is only ever called
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=bounds.idle_s,
        backlog=bounds.burst,
        server_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def serve_in_background(listening: socket.socket, app: ASGIApp) -> Iterator[None]:
    """Serve during the body. Raises StepFailedError if the server ends by itself.

    The body is interrupted, so that an update of hours does not leave the device without its API.
    """
    server, leaving, ended = http_server(app), threading.Event(), threading.Event()

    def serve() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            if not leaving.is_set():
                ended.set()
                ask_to_stop()

    thread = threading.Thread(target=serve, name="gateway", daemon=True)
    thread.start()
    try:
        yield
    except StopAskedError:
        if not ended.is_set():
            raise
        hint = "see its last log lines above; systemd restarts the agent"
        raise StepFailedError("The gateway ended unexpectedly", hint=hint) from None
    finally:
        with no_signals():
            leaving.set()
            server.should_exit = True
            thread.join(2 * _GRACE_S)
            listening.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket for `http_server`. Raises UsageError if the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for a socket made with IPPROTO_TCP. With Nagle, head
    # and first token are two writes, and the second waits 40 ms for a delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it. Linux would let each grow to megabytes for a client that does not
    # read, and the limits of slow clients begin where the kernel takes no more.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # now, so that a second agent fails here
    except OSError as error:
        listening.close()
        message = f"The gateway cannot listen on {host}:{port}"
        hint = f"choose another with --port, or find what uses it: ss -ltnp 'sport = :{port}'"
        raise UsageError(message, why=str(error), hint=hint) from None
    return listening
