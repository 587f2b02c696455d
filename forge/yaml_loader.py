"""Load YAML with unique keys: a duplicate key is an error and does not replace the first one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml
from yaml import MappingNode, SafeLoader
from yaml.constructor import ConstructorError

__all__ = ["UniqueKeys", "load"]


class UniqueKeys(SafeLoader):
    """PyYAML's SafeLoader with an error for duplicate keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  the base class's
        """Return the mapping of a node. Raises ConstructorError for a duplicate key."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(text: str) -> Any:
    """Return the single document in `text`.

    Raises:
        YAMLError: it is not valid YAML. This includes texts for which PyYAML raises other errors:
            a number with too many digits, an invalid date, nesting beyond Python's stack.
    """
    try:
        return yaml.load(text, UniqueKeys)  # noqa: S506  a SafeLoader
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None
