"""YAML in which a key that stands twice is an error: the last one must not win unseen."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from yaml import MappingNode, SafeLoader
from yaml.constructor import ConstructorError

__all__ = ["UniqueKeys"]


class UniqueKeys(SafeLoader):
    """PyYAML's SafeLoader, strict about keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  the base class's
        """Raises ConstructorError for a key that stands twice."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
