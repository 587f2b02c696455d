"""The TCP ports of one server."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from dataclasses import dataclass
from typing import Final

from forge.errors import PortTakenError, StepFailedError
from forge.serving.processes import listener

__all__ = ["HOST", "Ports", "choose_ports", "port_taken"]

HOST: Final = "127.0.0.1"
# Triton 2.51 says either, by which of its servers it was.
_TAKEN = re.compile(r"Socket '[^']*' already in use|Address already in use", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one server on 127.0.0.1; 0 means any free one."""

    http: int = 0
    metrics: int = 0


def choose_ports(wanted: Ports) -> Ports:
    """Ports that are free now.

    Raises:
        PortTakenError: one is taken; names who has it.
        StepFailedError: it cannot be tried, as this process may open no more files, say.
    """
    with contextlib.ExitStack() as held:
        http_port = _reserve(wanted.http, "http", held)
        return Ports(http_port, _reserve(wanted.metrics, "metrics", held))


def _reserve(port: int, use: str, held: contextlib.ExitStack) -> int:
    """A port that can be bound now; held until both are known, so that they differ."""
    try:
        listening = held.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise StepFailedError(f"Port {port} cannot be listened on", why=str(error)) from None
        who = listener(port)
        message = f"Port {port} for Triton's {use} is taken"
        why = f"{who} listens on it" if who else str(error)
        hint = f"stop that process, or choose another port (see: ss -ltnp 'sport = :{port}')"
        raise PortTakenError(message, why=why, hint=hint) from None
    return int(listening.getsockname()[1])


def port_taken(log: str) -> str:
    """What a server's log says of a port that was taken before it could bind it, else ""."""
    found = _TAKEN.search(log)
    return found.group(0) if found else ""
