"""Load YAML with unique keys: a duplicate key is an error and does not replace the first one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, cast

import yaml
from yaml import MappingNode, Mark
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

__all__ = ["UniqueKeys", "load"]

_MAX_DEPTH: Final = 100


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
            a number with too many digits, an invalid date, nesting beyond 100 levels,
            a value that contains itself.
    """
    try:
        _check_structure(text)
        return yaml.load(text, UniqueKeys)  # noqa: S506  a SafeLoader
    except ConstructorError:
        raise  # in our own words, or PyYAML's
    except yaml.YAMLError:
        # The messages of PyYAML's own parser say more, and are the same on every machine.
        for _ in yaml.parse(text, yaml.SafeLoader):
            pass
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def _check_structure(text: str) -> None:
    """Raise ConstructorError for values without an end, and for too many levels.

    A value that contains itself is valid YAML, and a program that walks through it does not end.
    The C library follows levels by recursion and would overflow its stack.
    """
    open_anchors: list[str | None] = []
    for event in yaml.parse(text, SafeLoader):
        problem = None
        if isinstance(event, CollectionStartEvent):
            open_anchors.append(event.anchor)
            if len(open_anchors) > _MAX_DEPTH:
                problem = f"nested more than {_MAX_DEPTH} levels"
        elif isinstance(event, CollectionEndEvent):
            open_anchors.pop()
        elif isinstance(event, AliasEvent) and event.anchor in open_anchors:
            problem = f"*{event.anchor} is inside of &{event.anchor}"
        if problem:
            mark = cast("Mark", event.start_mark)  # the C library's has the same fields
            raise ConstructorError(None, None, problem, mark)
