"""`trees/<sha256>.json`: the content of a folder, as a canonical document named by its digest.

A tree records regular files, their bytes and the executable bit, but no owners, times or empty
folders. A symbolic link to a regular file inside the folder is stored as that file, because tools
such as huggingface_hub write such links; any other link is an error.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.bundle import Digest, TreeReference
from forge.errors import ConfigurationError, CorruptedError, TrustError
from forge.files import check_paths
from forge.store.formats.names import MAX_FILE_BYTES
from forge.validation import validation_text

__all__ = ["MAX_TREE_BYTES", "SMALL", "Found", "Tree", "TreeEntry", "parse", "scan"]

MAX_TREE_BYTES: Final = 64 * 1024 * 1024  # about 300,000 files
SMALL: Final = 16 * 1024  # a file of at most this size is a pack of its own, without a chunk list


class TreeEntry(BaseModel):
    """One file of a tree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    mode: Literal[0o644, 0o755]
    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES, strict=True)]
    sha256: Digest


class Tree(BaseModel):
    """A folder's files, sorted by path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    entries: tuple[TreeEntry, ...]

    @property
    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(entry.size for entry in self.entries)

    def encode(self) -> bytes:
        """Return the canonical bytes, whose SHA-256 names the tree."""
        return canonical.dumps(self.model_dump(mode="json"))

    def reference(self) -> TreeReference:
        """Return the reference that manifests and step results store."""
        digest = canonical.sha256(self.encode())
        return TreeReference(digest=digest, size=self.size, files=len(self.entries))


@dataclass(frozen=True, slots=True)
class Found:
    """A file on disk that will be stored."""

    path: str  # in the tree
    source: Path
    mode: Literal[0o644, 0o755]
    size: int


def parse(data: bytes, digest: str, where: str) -> Tree:
    """Parse a tree and check digest, order and paths.

    Args:
        data: the object's bytes.
        digest: expected SHA-256 of the bytes.
        where: URL of the store, for the message.

    Raises:
        CorruptedError: the bytes have another digest, or are not a tree.
        TrustError: a path is not safe to create.
    """
    if canonical.sha256(data) != digest:
        raise _damaged(digest, where, "its bytes do not have this digest")
    try:
        tree = Tree.model_validate(json.loads(data))
    except ValidationError as error:
        raise _damaged(digest, where, validation_text(error)) from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise _damaged(digest, where, reason) from None
    paths = [entry.path for entry in tree.entries]
    check_paths(paths)
    if paths != sorted(set(paths)):
        raise _damaged(digest, where, "its paths are not sorted")
    return tree


def scan(folder: Path) -> tuple[Found, ...]:
    """Return every file below `folder`, sorted by path in the tree.

    Raises:
        ConfigurationError: it is not a folder, has no files or an empty subfolder, or contains
            something other than files, folders and links to files inside it.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", hint="use the path of a folder")
    top = folder.resolve()
    found = sorted(_walk(folder, top, ""), key=lambda one: one.path)
    if not found:
        hint = "a step must write at least one file into each of its outputs"
        raise ConfigurationError(f"{folder} contains no files", hint=hint)
    try:
        check_paths(one.path for one in found)
    except TrustError as error:
        message = f"{folder} cannot be stored"
        raise ConfigurationError(
            message, why=f"{error.what}: {error.why}", hint="rename the file"
        ) from None
    return tuple(found)


def _walk(folder: Path, top: Path, prefix: str) -> Iterator[Found]:
    items = sorted(os.scandir(folder), key=lambda item: item.name)
    if not items and prefix:
        why = "a tree stores files only, so an empty folder would be lost"
        raise ConfigurationError(
            f"{folder} is empty", why=why, hint="delete it or put a file into it"
        )
    for item in items:
        path = f"{prefix}{item.name}"
        if item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), top, f"{path}/")
        else:
            yield _file(Path(item.path), top, path)


def _file(source: Path, top: Path, path: str) -> Found:
    if source.is_symlink() and not Path(os.path.realpath(source)).is_relative_to(top):
        message = f"{source} is a symbolic link that is broken or points outside the folder"
        raise ConfigurationError(message, hint="replace it with the file")
    try:
        status = source.stat()
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read", why=str(error.strerror)) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a link to a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        hint = "only regular files can be stored: delete or replace it"
        raise ConfigurationError(f"{source} is {kind}", hint=hint)
    mode: Literal[0o644, 0o755] = 0o755 if status.st_mode & 0o100 else 0o644
    return Found(path, source, mode, status.st_size)


def _damaged(digest: str, where: str, why: str) -> CorruptedError:
    message = f"The tree {digest} in {where} is damaged"
    hint = "run 'forge store verify --repair', then build or publish it again"
    return CorruptedError(message, why=why, hint=hint)
