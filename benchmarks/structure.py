"""Figures of the code's structure: folders, circles, names, hooks, sizes, comments.

    python benchmarks/structure.py [FOLDER]

FOLDER holds `forge/`; by default this checkout. For an earlier commit: `git archive COMMIT forge`.
Only the code is read; nothing is imported. Programs of other environments (the templates for Triton
and the builders' tools) count as lines, but not for circles and names.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ELSEWHERE = (
    "forge/serving/repository/templates/",
    "forge/serving/templates/",
    "forge/builders/tools/",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """All modules of one checkout."""

    def __init__(self, root: Path) -> None:
        paths = sorted((root / "forge").rglob("*.py"))
        self.text = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}
        self.trees = {name: ast.parse(text) for name, text in self.text.items()}
        self.own = {n: tree for n, tree in self.trees.items() if not n.startswith(ELSEWHERE)}

    def lines(self) -> int:
        """Count the lines of all modules."""
        return sum(text.count("\n") for text in self.text.values())


def fullest_folders(source: Source) -> list[tuple[int, str]]:
    """Count the modules of each folder, `__init__.py` left out; the fullest first."""
    names = [Path(name) for name in source.trees if not name.endswith("__init__.py")]
    found = Counter(path.parent.as_posix() for path in names)
    return sorted(((count, folder) for folder, count in found.items()), reverse=True)


def circles(source: Source) -> list[list[str]]:
    """Return the groups of modules that import each other.

    Imports in functions and for types alone are included. An import of a name counts for the module
    that has this name, where there is one.
    """
    modules = {_dotted(name): name for name in source.own}
    graph = {
        module: {found for found in _imports(source.own[name], modules) if found != module}
        for module, name in modules.items()
    }
    return [sorted(group) for group in _strong(graph) if len(group) > 1]


def _dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(tree: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                if inner in modules:
                    yield inner
                elif node.module in modules:
                    yield node.module


def _strong(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """Yield the strongly connected components: what is reached from a module and reaches it."""
    reached = {module: _reach(graph, module) for module in graph}
    left = set(graph)
    while left:
        module = min(left)
        group = {other for other in reached[module] if module in reached[other]} | {module}
        left -= group
        yield group


def _reach(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for module in graph[waiting.pop()] - seen:
            seen.add(module)
            waiting.append(module)
    return seen


def names_defined_twice(source: Source) -> list[str]:
    """Return the public class names that several modules define."""
    found = defaultdict(set)
    for name, tree in source.own.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(name)
    return sorted(name for name, places in found.items() if len(places) > 1)


def hooks(source: Source, package: str) -> list[str]:
    """Return the attributes of a package's objects that another module assigns after construction.

    Such as `agent.tend = service.look`. Counted by name: an attribute that some class of the
    package declares, or sets in `__init__`, and that a module assigns whose own classes do neither.
    """
    trees = {name: tree for name, tree in source.own.items() if name.startswith(package)}
    declared = {name: set(_declared(tree)) for name, tree in trees.items()}
    everywhere = set().union(*declared.values())
    return sorted(
        f"{name}:{target.lineno} {ast.unparse(target)}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        for target in _targets(node)
        if target.attr in everywhere - declared[name]
        and ast.unparse(target.value) not in {"self", "cls"}
    )


def _targets(node: ast.AST) -> Iterator[ast.Attribute]:
    if isinstance(node, ast.Assign):
        parts = [part for target in node.targets for part in ast.walk(target)]
    elif isinstance(node, ast.AnnAssign):
        parts = [node.target]
    else:
        return
    for part in parts:
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield part


def _declared(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id
                if isinstance(line, Function) and line.name == "__init__":
                    for inner in ast.walk(line):
                        yield from (one.attr for one in _targets(inner))


def largest_classes(source: Source) -> list[tuple[int, str]]:
    """Return the lines of each class, the largest first."""
    found = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{node.name} ({name})")
        for name, tree in source.own.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    return sorted(found, reverse=True)


def function_lengths(source: Source) -> list[int]:
    """Return the lines of each function, from `def` to its end, ascending."""
    return sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for tree in source.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    )


def comment_share(source: Source) -> tuple[float, float]:
    """Return the shares of lines with a comment, and of docstrings, in lines that are not blank."""
    comments = docstrings = full = 0
    for name, text in source.text.items():
        full += sum(bool(line.strip()) for line in text.splitlines())
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments += sum(one.type == tokenize.COMMENT for one in tokens)
        docstrings += sum(_docstring_lines(node) for node in ast.walk(source.trees[name]))
    return comments / full, docstrings / full


def _docstring_lines(node: ast.AST) -> int:
    if not isinstance(node, ast.Module | ast.ClassDef | Function) or not node.body:
        return 0
    first = node.body[0]
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return 0
    text = first.value.value
    return sum(bool(line.strip()) for line in text.splitlines()) if isinstance(text, str) else 0


def main(root: Path) -> int:
    """Print each figure."""
    source = Source(root)
    lengths, (comments, docstrings) = function_lengths(source), comment_share(source)
    p90 = statistics.quantiles(lengths, n=10)[-1]
    found = circles(source)
    assigned = hooks(source, "forge/device/")
    rows = {
        "fullest folders": ", ".join(f"{name} {n}" for n, name in fullest_folders(source)[:5]),
        "circles of modules": f"{len(found)} {found or ''}",
        "public class names defined twice": str(names_defined_twice(source) or 0),
        "hooks set after construction, device": f"{len(assigned)} {assigned or ''}",
        "largest classes": ", ".join(f"{name} {n}" for n, name in largest_classes(source)[:3]),
        "modules, lines of forge": f"{len(source.text)}, {source.lines()}",
        "function length": f"median {statistics.median(lengths):g}, p90 {p90:g}, max {lengths[-1]}",
        "lines with a comment": f"{comments:.1%}, docstrings {docstrings:.1%}",
    }
    for name, value in rows.items():
        print(f"{name:<42} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parents[1]))
