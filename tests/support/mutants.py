"""Programs that are wrong in one place: would a test notice?

`mutants` takes a module's source and yields it with one change each: a comparison swapped, a
constant changed, a branch, an argument or a statement dropped, a call replaced by its argument.
Messages, docstrings and annotations are left as they are.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, cast, get_args

from forge.device.state_machine.journal import UpdateState

__all__ = ["Mutant", "failing_test", "loaded", "mutants"]

_STATES: Final[tuple[str, ...]] = get_args(UpdateState)
_UNREAD: Final = frozenset({"annotation", "returns", "decorator_list", "type_params", "exc"})
_SWAPS: Final[dict[type, tuple[type, ...]]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.And: (ast.Or,), ast.Or: (ast.And,), ast.Add: (ast.Sub,), ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One wrong program.

    Attributes:
        name: the line as it was, and what was changed: says which one it is, in any version.
        line: number of that line.
        source: of the whole module.
    """

    name: str
    line: int
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every wrong version of a module."""
    tree, lines, seen = ast.parse(source), source.splitlines(), set[str]()
    for what, line in _changed(tree):
        mutated = ast.unparse(tree)
        name = f"{lines[line - 1].strip()}  # {what}"
        count = 2
        while name in seen:
            name, count = f"{lines[line - 1].strip()}  # {what} ({count})", count + 1
        seen.add(name)
        yield Mutant(name, line, mutated)


def loaded(source: str, name: str) -> ModuleType:
    """A module of this source; nothing else gets it."""
    module = ModuleType(name)
    sys.modules.setdefault(name, module)  # a dataclass looks its module up
    exec(compile(source, f"<a mutant of {name}>", "exec"), module.__dict__)  # noqa: S102
    return module


def failing_test(
    tests: Path, module: ModuleType, fixtures: Mapping[str, object] = MappingProxyType({})
) -> str:
    """Name of the first test of a file that fails with `module` in place of its namesake.

    Args:
        tests: the file.
        module: the mutant.
        fixtures: that the tests may ask for, by name.

    Returns:
        "" if all pass.
    """
    before = sys.modules[module.__name__]
    sys.modules[module.__name__] = module
    try:
        loaded_tests = loaded(tests.read_text(), "tests_of_a_mutant")
    except Exception as error:  # noqa: BLE001 - whatever a wrong program raises
        return f"importing it: {error!r}"
    finally:
        sys.modules[module.__name__] = before
    found = (one for name, one in vars(loaded_tests).items() if name.startswith("test_"))
    for test in found:
        names = inspect.signature(test).parameters
        asked = {name: fixtures[name] for name in names if name in fixtures}
        for arguments in _cases(test):
            try:
                test(**arguments, **asked)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - pytest.fail is no Exception
                return cast("str", test.__name__)
    return ""


def _cases(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The arguments of each case of a parametrized test."""
    axes = []
    for mark in getattr(test, "pytestmark", ()):
        names, values = mark.args
        split = names.split(",") if isinstance(names, str) else names
        rows = (one if len(split) > 1 else (one,) for one in values)
        axes.append([dict(zip(map(str.strip, split), row, strict=True)) for row in rows])
    for parts in product(*axes):
        yield {name: value for part in parts for name, value in part.items()}


def _changed(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Change the tree in place, once each; it is as before after the next step."""
    for parent in list(_read_nodes(tree)):
        for name, value in ast.iter_fields(parent):
            if name in _UNREAD:
                continue
            if isinstance(value, ast.AST):
                for what, new in _replacements(value):
                    setattr(parent, name, new)
                    yield what, _line(value, parent)
                setattr(parent, name, value)
            elif isinstance(value, list):
                yield from _in_list(parent, name, value)


def _in_list(parent: ast.AST, name: str, items: list[Any]) -> Iterator[tuple[str, int]]:
    for index, item in enumerate(items):
        if not isinstance(item, ast.AST):
            continue
        for what, new in _replacements(item):
            items[index] = new
            yield what, _line(item, parent)
        items[index] = item
    yield from _shortened(parent, name, items)


def _shortened(parent: ast.AST, name: str, items: list[Any]) -> Iterator[tuple[str, int]]:
    """Without one operand, keyword argument, element, entry or case."""
    least = {"values": 2, "keywords": 1, "elts": 2, "cases": 2, "ifs": 1}.get(name)
    if least is None or len(items) < least or isinstance(parent, ast.JoinedStr):
        return
    keys = parent.keys if isinstance(parent, ast.Dict) else None
    if isinstance(parent, ast.Tuple):
        return
    for index, item in enumerate(list(items)):
        line = _line(item, parent)
        key = keys.pop(index) if keys is not None else None
        del items[index]
        yield f"without {' '.join(ast.unparse(item).split())[:60]}", line
        items.insert(index, item)
        if keys is not None:
            keys.insert(index, key)


def _read_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that decides something: no annotation, no message, no import."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr) or _is_all(node):
            continue
        yield node
        for name, value in ast.iter_fields(node):
            if name not in _UNREAD:
                children = value if isinstance(value, list) else [value]
                waiting += [child for child in children if isinstance(child, ast.AST)]


def _replacements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for kind in _SWAPS.get(type(node), ()):
        yield f"{type(node).__name__} → {kind.__name__}", kind()
    match node:
        case ast.Constant(value=value):
            yield from _constants(value)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "its sign dropped", operand
        case ast.IfExp(body=body, orelse=orelse):
            yield "always the first", body
            yield "always the second", orelse
        case ast.Call(args=[first, *others]):
            for one in (first, *others):
                if not isinstance(one, ast.Starred | ast.Lambda | ast.GeneratorExp):
                    yield f"{ast.unparse(node)[:60]} → {ast.unparse(one)[:40]}", one
        case _:
            yield from _statements(node)


def _statements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If(body=body, orelse=orelse):
            for test in (True, False):
                condition = ast.Constant(test)
                yield f"if {test}", ast.If(test=condition, body=body, orelse=orelse)
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield "returns None", ast.Return(value=ast.Constant(None))
        case ast.Raise() | ast.Assign() | ast.AugAssign() if not _is_all(node):
            yield "dropped", ast.Pass()
        case ast.Expr(value=ast.Call() | ast.YieldFrom() | ast.Yield()):
            yield "dropped", ast.Pass()


def _constants(value: object) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(value, bool):
        yield f"{value} → {not value}", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield f"{value} → {value + 1}", ast.Constant(value + 1)
        if value > 1:
            yield f"{value} → {value - 1}", ast.Constant(value - 1)
    elif isinstance(value, str) and value in _STATES:
        following = _STATES[(_STATES.index(value) + 1) % len(_STATES)]
        yield f"{value} → {following}", ast.Constant(following)
    elif isinstance(value, str) and value and " " not in value:
        yield f"{value!r} → another", ast.Constant(f"{value}-another")


def _is_all(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case _:
            return False


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _line(node: ast.AST, parent: ast.AST) -> int:
    return getattr(node, "lineno", 0) or getattr(parent, "lineno", 1)
