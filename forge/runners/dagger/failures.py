"""What a failure of Dagger is: of the step's command, of its image, or of the engine. Pure.

    command   the container ran it, and it exited with another code than 0
    image     the image cannot be used, or lacks what a step requires
    engine    the engine is gone or its session ended, its disk is full, or its network broke: says
              nothing about the step (EngineError, exit code 4), and may be tried again

Dagger's API has no codes for failures but one, for a command that failed. So the message decides,
by words of the libraries that engine, CLI and installers are made of: Go's net, gRPC, BuildKit,
containerd, the kernel, uv and pip. tests/support/dagger_failures.py has the messages and says which
of them were reported by users of Dagger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

from forge.errors import EngineError

__all__ = ["EngineFailure", "engine_error", "engine_failure", "is_full"]


class EngineFailure(Enum):
    """What happened to an engine; the value completes "the engine …"."""

    LOST = "was lost"
    FULL = "has no space left on its disk"
    NETWORK = "could not reach a server of the network"


_FULL: Final = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)
# A server of the network that the engine, or an installer in its container, asks.
_NETWORK: Final = re.compile(
    "|".join(
        (
            # Go, containerd: a registry
            *("dial tcp", "no such host", "failed to do request", "i/o timeout", "x509: "),
            *("TLS handshake", "tls: failed to", "network is unreachable", "no route to host"),
            *("toomanyrequests", "429 Too Many Requests", r"unexpected status.* 5\d\d "),
            # uv and pip: a package index
            *("error sending request", r"client error \(Connect\)", "dns error", "name resolution"),
            *("NewConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError"),
        )
    ),
    re.IGNORECASE,
)
# Between the CLI and the engine, and in the engine.
_LOST: Final = re.compile(
    "|".join(
        (
            *("code = Unavailable", "transport is closing", "error reading from server"),
            *("error reading server preface", "connection refused", "connection reset by peer"),
            *("broken pipe", "use of closed network connection", "unexpected EOF", ": EOF$"),
            *("no active session", "failed to get (main client caller|requester session)"),
            *(r"session for \S+ not found", r"server \S+ not found", "dial-stdio"),
            *("context canceled", "context deadline exceeded"),
            r"parent snapshot \S+ does not exist",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)
_KEPT_LINES: Final = 20


def engine_failure(text: str) -> EngineFailure | None:
    """Return what happened to the engine according to a message of Dagger; None: nothing.

    Args:
        text: the message of a failed call, or what an installer printed. Never what the command of
            a step printed: that it cannot reach a server may be its own fault.
    """
    if _FULL.search(text):
        return EngineFailure.FULL
    if _NETWORK.search(text):
        return EngineFailure.NETWORK
    return EngineFailure.LOST if _LOST.search(text) else None


def is_full(printed: str) -> bool:
    """Return whether the last lines of a failed command say that a disk is full.

    A step writes to the engine's disk only, so that its command cannot be the cause.
    """
    return _FULL.search("\n".join(_last(printed.splitlines()))) is not None


def engine_error(
    step: str, failure: EngineFailure, address: str | None, words: Iterable[str]
) -> EngineError:
    """Return the error of a step whose engine failed, with what the engine said.

    Args:
        step: id of the step, or empty.
        failure: what happened.
        address: of the engine; None for Dagger's default engine.
        words: lines that the engine or the CLI said, oldest first.
    """
    said = [line for word in words for line in word.splitlines() if line.strip()]
    what = f"Step {step} was not run to its end" if step else "Dagger cannot be used"
    where = address or "Dagger's default address"
    lines = "\n".join(f"  | {line}" for line in _last(dict.fromkeys(said)))
    return EngineError(
        what,
        why=f"the engine at {where} {failure.value}" + (f"\n{lines}" if lines else ""),
        hint=f"{_HINTS[failure]}\nthen run the same command again: finished steps are in the store",
    )


def _last(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.strip()][-_KEPT_LINES:]


_HINTS: Final = {
    EngineFailure.LOST: "check that the engine runs: dagger core version",
    EngineFailure.FULL: "free the engine's disk: dagger core engine local-cache prune\n"
    "or this machine's, if a path above is here: forge cache prune",
    EngineFailure.NETWORK: "check the network, proxy and certificates of the engine",
}
