"""Open what is published in a store and verify it, for commands that answer questions about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from forge.cli.common import open_named_store, open_project
from forge.cli.terminal import print_text
from forge.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from forge.release.repository.verified_index import VerifiedIndex
    from forge.store import Store

__all__ = ["OpenedStore", "open_verified", "read_root", "root_option", "trusted_root",
           "verify_store"]  # fmt: skip

_MAX_ROOT_BYTES: Final = 512_000
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store, and what is published in it by verified signatures."""

    store: Store
    index: VerifiedIndex


def root_option(function: _F) -> _F:
    """Add `--root FILE` to a command."""
    return click.option(
        "--root",
        "root_file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Trusted root.json of the publisher. Default: that of the keys folder, else the first "
        "root of the store.",
    )(function)


def open_verified(
    project_dir: Path | None, store_url: str | None, root_file: Path | None
) -> OpenedStore:
    """Open a store and verify its metadata.

    Raises:
        TrustError: a signature, an expiry, a version or a digest is not valid.
        StoreError: the store cannot be reached.
    """
    store = open_named_store(project_dir, store_url)
    return verify_store(store, root_file or _own_root(project_dir, store_url))


def trusted_root(
    store: Store, project_dir: Path | None, store_url: str | None, root_file: Path | None
) -> bytes:
    """Return the root metadata from which a store is verified; see `root_option`.

    Raises TrustError, StoreError.
    """
    file = root_file or _own_root(project_dir, store_url)
    return _first_root(store) if file is None else read_root(file)


def verify_store(store: Store, file: Path | None) -> OpenedStore:
    """Verify the metadata of a store from a root in a file; None: from the store's first root.

    Raises as `open_verified`.
    """
    from forge.release.repository.verified_index import read_verified_index
    from forge.trust.layout import TIMESTAMP_NAME

    if file is None and store.objects.size(TIMESTAMP_NAME) is None:
        root = b""  # nothing is published, or the timestamp is missing, which is reported
    else:
        root = _first_root(store) if file is None else read_root(file)
    return OpenedStore(store, read_verified_index(store.objects, root))


def _first_root(store: Store) -> bytes:
    from forge.release.repository.verified_index import first_root

    root = first_root(store.objects)
    print_text(
        "The signatures are verified from the first root of the store. To verify them from "
        "your own: --root root.json",
        out=sys.stderr,
    )
    return root


def _own_root(project_dir: Path | None, store_url: str | None) -> Path | None:
    # The keys of a project trust its own store; another one is named together with its keys.
    own = not store_url or "FORGE_KEYS" in os.environ
    return _root_of_keys(project_dir) if own else None


def _root_of_keys(project_dir: Path | None) -> Path | None:
    """Return root.json of the project's keys folder, which trusts the project's own store."""
    from forge.release.keys.places import find_folder

    named = os.environ.get("FORGE_KEYS")
    try:
        folder = Path(named) if named else None
        folder = folder or find_folder(open_project(project_dir).root, os.environ).folder
        file = folder / "root.json"
    except ConfigurationError:  # no project here, or no home folder
        return None
    return file if file.is_file() else None


def read_root(file: Path) -> bytes:
    """Return the root metadata in a file. Raises UsageError if it is too large for one."""
    with file.open("rb") as opened:
        data = opened.read(_MAX_ROOT_BYTES + 1)
    if len(data) > _MAX_ROOT_BYTES:
        raise UsageError(f"{file} is larger than {_MAX_ROOT_BYTES} bytes", why="it is not a root")
    return data
