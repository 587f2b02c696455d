"""The TCP ports of one server."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from dataclasses import dataclass
from typing import Final

from forge.errors import PortTakenError, StepFailedError
from forge.serving.triton.processes import listener

__all__ = ["HOST", "Ports", "choose_ports", "port_taken"]

HOST: Final = "127.0.0.1"
# Triton 2.51 logs one or the other, depending on which of its servers failed.
_TAKEN = re.compile(r"Socket '[^']*' already in use|Address already in use", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one server on 127.0.0.1; 0 means any free one."""

    http: int = 0
    metrics: int = 0


def choose_ports(wanted: Ports) -> Ports:
    """Return ports that are free now.

    Raises:
        PortTakenError: a port is in use; the message names the process.
        StepFailedError: it cannot be checked, because this process cannot open more files, say.
    """
    with contextlib.ExitStack() as held:
        http_port = _reserve(wanted.http, "http", held)
        return Ports(http_port, _reserve(wanted.metrics, "metrics", held))


def _reserve(port: int, use: str, held: contextlib.ExitStack) -> int:
    """Return a port that can be bound now, and hold it until both are chosen, so they differ."""
    try:
        listening = held.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise StepFailedError(f"Cannot listen on port {port}", why=str(error)) from None
        who = listener(port)
        message = f"Port {port} for Triton's {use} is in use"
        why = f"{who} listens on it" if who else str(error)
        hint = f"stop that process, or choose another port (see: ss -ltnp 'sport = :{port}')"
        raise PortTakenError(message, why=why, hint=hint) from None
    return int(listening.getsockname()[1])


def port_taken(log: str) -> str:
    """Return a server log's error about a port that was in use, else ""."""
    found = _TAKEN.search(log)
    return found.group(0) if found else ""
