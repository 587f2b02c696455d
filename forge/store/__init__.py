"""Content-addressed storage of file trees and step results.

Names are imported on first use (PEP 562), so that looking up an object does not import the modules
for chunking, packing and verifying.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from forge.store.backends.open import open_objects
    from forge.store.backends.protocol import Entry, Objects, Stored
    from forge.store.download.downloader import Transfer
    from forge.store.formats.action import ActionResult
    from forge.store.formats.tree import Tree, TreeEntry
    from forge.store.store import Store, open_store
    from forge.store.upload.uploader import PutReport

__all__ = [
    "ActionResult",
    "Entry",
    "Objects",
    "PutReport",
    "Store",
    "Stored",
    "Transfer",
    "Tree",
    "TreeEntry",
    "open_objects",
    "open_store",
]

_MODULES: Final = {
    "ActionResult": "formats.action",
    "Entry": "backends.protocol",
    "Objects": "backends.protocol",
    "PutReport": "upload.uploader",
    "Store": "store",
    "Stored": "backends.protocol",
    "Transfer": "download.downloader",
    "Tree": "formats.tree",
    "TreeEntry": "formats.tree",
    "open_objects": "backends.open",
    "open_store": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
