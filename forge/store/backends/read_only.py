"""Base of read-only backends: every method of `Objects` that writes, deletes or lists fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from forge.errors import ConfigurationError
from forge.store.backends.protocol import Entry

__all__ = ["ReadOnly"]


class ReadOnly:
    """Mixin without writing, deleting and listing: these methods raise ConfigurationError."""

    @property
    def url(self) -> str:
        """See `Objects.url`."""
        raise NotImplementedError

    def write(self, name: str, data: bytes) -> str:  # noqa: ARG002
        """See `Objects.write`."""
        self._refuse("written to")

    def write_new(self, name: str, data: bytes) -> str:  # noqa: ARG002
        """See `Objects.write_new`."""
        self._refuse("written to")

    def write_if(self, name: str, data: bytes, etag: str) -> str:  # noqa: ARG002
        """See `Objects.write_if`."""
        self._refuse("written to")

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:  # noqa: ARG002
        """See `Objects.write_file`."""
        self._refuse("written to")

    def delete(self, name: str) -> None:  # noqa: ARG002
        """See `Objects.delete`."""
        self._refuse("written to")

    def touch(self, name: str) -> None:  # noqa: ARG002
        """See `Objects.touch`."""
        self._refuse("written to")

    def entries(self, prefix: str) -> Iterator[Entry]:  # noqa: ARG002
        """See `Objects.entries`."""
        self._refuse("listed")

    def scratch(self) -> Path:
        """See `Objects.scratch`."""
        self._refuse("written to")

    def sweep(self, before: float) -> int:  # noqa: ARG002
        """See `Objects.sweep`."""
        self._refuse("written to")

    def _refuse(self, what: str) -> NoReturn:
        message = f"The store {self.url} cannot be {what}: it is read-only"
        hint = "use the folder or bucket that it serves: --store s3://bucket/prefix"
        raise ConfigurationError(message, hint=hint)
