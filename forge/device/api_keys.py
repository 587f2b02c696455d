"""API keys: a file of their SHA-256, so that reading it lets nobody in.

# name   sha256 of the key
camera   9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError, UsageError

__all__ = ["ApiKeys", "read_keys", "require_keys"]

_MAX_FILE_BYTES: Final = 1024 * 1024
_LINE: Final = re.compile(r"[\w.-]{1,64}\s+([0-9a-f]{64})")
_HINT: Final = "a line is NAME and what this prints: printf %s KEY | sha256sum"


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """SHA-256 digests of the keys that may ask."""

    digests: tuple[bytes, ...]

    def knows(self, key: bytes) -> bool:
        """Whether it is one of them; takes the same time for every wrong key."""
        digest = hashlib.sha256(key).digest()
        found = [hmac.compare_digest(digest, one) for one in self.digests]
        return any(found)


def read_keys(path: Path) -> ApiKeys:
    """Read a file of keys. Raises ConfigurationError; no line of the file is shown."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        message = f"The API keys in {path} cannot be read"
        raise ConfigurationError(message, why=str(error), hint=_HINT) from None
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} has more than {_MAX_FILE_BYTES} bytes", hint=_HINT)
    digests = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        found = _LINE.fullmatch(content)
        if not found:
            raise ConfigurationError(f"Line {number} of {path} holds no API key", hint=_HINT)
        digests.append(bytes.fromhex(found[1]))
    if not digests:
        raise ConfigurationError(f"{path} holds no API key, so nobody could ask", hint=_HINT)
    return ApiKeys(tuple(digests))


def require_keys(host: str, keys: ApiKeys | None, *, open_to_all: bool) -> None:
    """Raise UsageError if others than this machine could ask without a key, and nobody said so."""
    if keys or open_to_all or _is_loopback(host):
        return
    raise UsageError(
        f"Anybody who reaches {host} could ask this device",
        why="it is not a loopback address and there are no API keys",
        hint="give --api-keys-file FILE, or --without-api-keys if something in front asks for them",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may stand for any address
