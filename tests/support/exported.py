"""Export a bundle of a test's world into a `.forge` file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from forge.release.bundle_reader import BundlePart
from forge.release.export import Exported, export_bundle
from forge.store import Store
from forge.store.progress import Progress

__all__ = ["exported", "silent"]


@contextlib.contextmanager
def silent(_what: str) -> Iterator[Progress]:
    """A progress that nobody sees."""
    yield lambda _done, _total: None


def exported(
    store: Store, root: bytes, part: BundlePart, file: Path, now: datetime | None = None
) -> Exported:
    return export_bundle(store, root, part, file, silent, now=now)
