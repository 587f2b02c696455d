"""Where the gateway listens, whom it lets in, and how long an answer may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forge.device.api_keys import KeyFile, Keys, is_loopback, require_keys

__all__ = ["Door"]


@dataclass(frozen=True, slots=True)
class Door:
    """What the command line says about the API.

    Attributes:
        host: address to listen on.
        port: 0 means any free one; `status` shows it.
        keys_file: of API keys; None asks for none.
        open_to_all: also strangers may ask without a key.
        limit_s: from a question to the end of its answer.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys_file: Path | None = None
    open_to_all: bool = False
    limit_s: float = 300.0

    def keys(self, say: Callable[[str], None] = lambda _: None) -> Keys | None:
        """Who may ask; None lets everybody. `say` gets a line when the file has changed.

        Raises:
            ConfigurationError: the file cannot be read or is wrong.
            UsageError: strangers could ask without a key, and nobody said they may.
        """
        keys = KeyFile(self.keys_file, say) if self.keys_file else None
        require_keys(self.host, keys, open_to_all=self.open_to_all)
        return keys

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that a request may give to the gateway; None: any.

        Where anything on this machine may ask without a key, a web page must not: its own name can
        be made to mean 127.0.0.1, and a browser then takes the gateway for a part of that page.
        """
        if self.keys_file or not is_loopback(self.host):
            return None
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset({"localhost", "127.0.0.1", "[::1]", shown.lower()})
