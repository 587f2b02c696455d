"""API keys: a file of their SHA-256 digests, so that reading it gives no access.

# name   sha256 of the key
camera   9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from forge.errors import ConfigurationError, UsageError

__all__ = ["ApiKeys", "KeyFile", "Keys", "is_loopback", "read_keys", "require_keys"]

_log = logging.getLogger(__name__)

_MAX_FILE_BYTES: Final = 1024 * 1024
_LINE: Final = re.compile(r"([\w.-]{1,64})\s+([0-9a-f]{64})")
_HINT: Final = "a line is NAME and what this prints: printf %s KEY | sha256sum"


class Keys(Protocol):
    """A set of API keys."""

    def name_of(self, key: bytes, /) -> str | None:
        """Return the name of a key, which several may share; None: it is not one of the keys."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Names and SHA-256 digests of the keys."""

    digests: tuple[tuple[str, bytes], ...]

    def name_of(self, key: bytes) -> str | None:
        """Return the name of a key, in the same time for every wrong key."""
        digest = hashlib.sha256(key).digest()
        found = [name for name, one in self.digests if hmac.compare_digest(digest, one)]
        return found[0] if found else None


class KeyFile:
    """The keys of a file, read again when it has changed: a key is revoked without a restart.

    A file that is missing or no longer valid changes nothing: the keys of before stay valid.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: as `read_keys`, here at the start only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._mark()
        self._keys = read_keys(path)

    def name_of(self, key: bytes) -> str | None:
        """Return the name that the file gives this key now."""
        if (mark := self._mark()) != self._seen:
            self._seen = mark
            try:
                self._keys = read_keys(self._path)
                _log.warning("the API keys have changed: %d are valid", len(self._keys.digests))
            except ConfigurationError as error:
                _log.warning("the API keys are unchanged: %s", error)
        return self._keys.name_of(key)

    def _mark(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


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
            raise ConfigurationError(f"Line {number} of {path} is not a valid API key", hint=_HINT)
        digests.append((found[1], bytes.fromhex(found[2])))
    if not digests:
        raise ConfigurationError(
            f"{path} holds no API key, so every request would be refused", hint=_HINT
        )
    return ApiKeys(tuple(digests))


def require_keys(host: str, keys: Keys | None, *, open_to_all: bool) -> None:
    """Raise UsageError if other machines could use the API without a key, unless that is wanted."""
    if keys or open_to_all or is_loopback(host):
        return
    raise UsageError(
        f"Every machine that reaches {host} could use this device",
        why="it is not a loopback address and there are no API keys",
        hint="give --api-keys-file FILE, or --without-api-keys if a proxy in front checks them",
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to any address
