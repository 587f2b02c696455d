"""How the memory of a release was computed, as it is signed with the release's manifest.

It is a custom field of the manifest's entry in TUF's metadata, and not of the manifest: devices of
earlier versions refuse a manifest with a field that they do not know.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from forge.memory.formula import ServedMemory

__all__ = ["MEMORY_FIELD", "encode_served_memory", "parse_served_memory"]

MEMORY_FIELD: Final = "memory"


def encode_served_memory(served: ServedMemory) -> dict[str, Any]:
    """Return the value of the field; defaults are left out, to keep the metadata small."""
    return served.model_dump(mode="json", exclude_defaults=True)


def parse_served_memory(custom: object) -> ServedMemory | None:
    """Return how the memory of a release was computed.

    Args:
        custom: the field `custom` of the manifest's entry.

    Returns:
        None where its publisher did not compute it, or in a way that this version of Forge does not
        know: the manifest's `fit.memory_mib` counts in any case.
    """
    if not isinstance(custom, dict) or MEMORY_FIELD not in custom:
        return None
    try:
        return ServedMemory.model_validate(custom[MEMORY_FIELD])
    except ValidationError:
        return None
