"""Configuration of the gateway: where it listens, who may use it, and its time limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device.gateway.api_keys import KeyFile, Keys, is_loopback, require_keys

__all__ = ["GatewayConfig", "QueueRules"]

_MOST_WAITING: Final = 1024


@dataclass(frozen=True, slots=True)
class QueueRules:
    """How many requests wait for each place in Triton, and how long at most."""

    per_place: int = 8
    max_wait_s: float = 30.0

    def length(self, places: int) -> int:
        """Return how many requests may wait."""
        return min(self.per_place * places, _MOST_WAITING)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What the command line says about the API, and limits that it does not set.

    Attributes:
        host: address to listen on.
        port: 0 means any free one; `status` shows it.
        keys_file: file of API keys; None requires none.
        open_to_all: allow requests without a key from other machines.
        limit_s: from the arrival of a request to the end of its answer, waiting included.
        keep_alive_s: between comments in a stream while the model computes the prompt.
        body_s: for the body of a request to arrive.
        queue: the limits of the queue.
        cors_origins: origins of web pages that may use the API; "*": any.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys_file: Path | None = None
    open_to_all: bool = False
    limit_s: float = 300.0
    body_s: float = 30.0
    keep_alive_s: float = 15.0  # proxies close a silent connection after 30 to 60 s
    queue: QueueRules = QueueRules()
    cors_origins: tuple[str, ...] = ()

    def keys(self) -> Keys | None:
        """Return the API keys; None accepts every request.

        Raises:
            ConfigurationError: the file cannot be read or is not valid.
            UsageError: other machines could send requests without a key.
        """
        keys = KeyFile(self.keys_file) if self.keys_file else None
        require_keys(self.host, keys, open_to_all=self.open_to_all)
        return keys

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that a request may give in its Host header; None: any.

        Where no key is required on a loopback address, a web page must be refused: its own name can
        be made to resolve to 127.0.0.1, and a browser then treats the gateway as part of that page.
        """
        if self.keys_file or not is_loopback(self.host):
            return None
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset({"localhost", "127.0.0.1", "[::1]", shown.lower()})
