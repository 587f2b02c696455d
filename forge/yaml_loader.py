"""YAML in which a key that stands twice is an error: the last one must not win unseen."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml
from yaml import MappingNode, SafeLoader
from yaml.constructor import ConstructorError

__all__ = ["UniqueKeys", "load"]


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


def load(text: str) -> Any:
    """The one document in `text`.

    Raises:
        YAMLError: it is none; also for what PyYAML itself fails at with other errors: a number of
            too many digits, a date that is none, more nesting than Python's stack holds.
    """
    try:
        return yaml.load(text, UniqueKeys)  # noqa: S506  a SafeLoader
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None
