"""Content-addressed bytes and step results.

The names are imported when they are first asked for (PEP 562): who only looks up an object must not
pay for chunking, packing and verifying.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from forge.store.actions import ActionResult
    from forge.store.location import open_objects
    from forge.store.objects import Entry, Objects, Stored
    from forge.store.pull import Transfer
    from forge.store.put import PutReport
    from forge.store.store import Store, open_store
    from forge.store.trees import Tree, TreeEntry

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
    "ActionResult": "actions",
    "Entry": "objects",
    "Objects": "objects",
    "PutReport": "put",
    "Store": "store",
    "Stored": "objects",
    "Transfer": "pull",
    "Tree": "trees",
    "TreeEntry": "trees",
    "open_objects": "location",
    "open_store": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
