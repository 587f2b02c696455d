"""What runs of a Python file, and its digest: comments, docstrings and layout do not count.

The digest is the same on every Python. `ast.dump` will not do: it has changed which empty fields it
prints, and `repr` of a string depends on the version of Unicode.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Syntax", "name_of", "parse"]

# Fields of a syntax tree that say nothing about what it does, or are not on every Python.
_SILENT: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


@dataclass(frozen=True, slots=True)
class Syntax:
    """One parsed file.

    Attributes:
        tree: all of it.
        nodes: what runs; not what is under `if TYPE_CHECKING:`, nor docstrings.
        sha256: digest of what runs.
        imported: modules that it imports by their whole name, as `import NAME` does.
    """

    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    sha256: str
    imported: frozenset[str]


@functools.lru_cache(maxsize=128)  # a plan of many profiles asks for the same files again
def parse(source: bytes, *, leave_out: str = "") -> Syntax:
    """Parse a file's bytes. Raises SyntaxError, ValueError.

    Args:
        source: the file.
        leave_out: a constant of the module that does not count.
    """
    tree = ast.parse(source)
    text: list[str] = []
    nodes: list[ast.AST] = []
    _flatten([node for node in tree.body if not _assigns(node, leave_out)], text, nodes)
    sha256 = hashlib.sha256("".join(text).encode()).hexdigest()
    return Syntax(tree, tuple(nodes), sha256, _imported(nodes))


def _imported(nodes: Iterable[ast.AST]) -> frozenset[str]:
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module)
    return frozenset(found)


def name_of(node: ast.AST) -> str:
    """Return `x` for the names `x` and `y.x`, else an empty text."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _flatten(value: object, text: list[str], nodes: list[ast.AST]) -> None:
    """Add what runs of a tree to `text`, and its nodes."""
    if isinstance(value, ast.AST):
        if _is_silent(value):
            return
        if isinstance(value, ast.If) and name_of(value.test) == "TYPE_CHECKING":
            _flatten(value.orelse, text, nodes)
            return
        nodes.append(value)
        text.append(f"{type(value).__name__}(")
        for field in _fields(value._fields):
            child = getattr(value, field, None)
            if isinstance(value, ast.JoinedStr):  # Python 3.12 adds empty text to a format
                child = [part for part in value.values if not _is_empty(part)]
            if child not in (None, []) or field == "value":  # None is a Constant's value, too
                text.append(f"{field}=")
                _flatten(child, text, nodes)
        text.append(")")
    elif isinstance(value, list):
        text.append("[")
        for child in value:
            _flatten(child, text, nodes)
        text.append("]")
    else:
        text.append(f"{value!a},")


@functools.cache
def _fields(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in sorted(names) if name not in _SILENT)


def _is_silent(node: ast.AST) -> bool:
    """Whether a statement does nothing: a docstring."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _assigns(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=target)]):
            return target == name
    return False


def _is_empty(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""
