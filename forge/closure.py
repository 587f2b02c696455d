"""The import closure of a step: the modules and data files of Forge that its command is made of.

`sources_of("forge.serving.steps.render")` begins at the module that the command runs and follows
every import of a `forge` module, inside functions too; an import runs the `__init__` of each
package above it, so those count as well. Left out is what never runs: imports under
`if TYPE_CHECKING:`.

    a module       hashed by its syntax tree: comments, docstrings, positions and layout do not
                   count, and the digest is the same on every Python
    a data file    hashed by its bytes
    __version__    counts only where a module of the closure reads it: a new release of Forge alone
                   changes no key

What cannot be read off the imports is declared in the module itself, as literals:

    DATA_FILES = ("templates/{builder}/*",)   files it reads or runs by their path: globs from its
                                              own folder. A script that is a module of a package
                                              counts as a module. `{name}` is filled in by the
                                              stage, else it matches anything
    _MODULES = {"Store": "store"}             with a package's `__getattr__`: submodule by name

A module that finds files by its own place and declares none, or imports a name that it computes,
raises ConfigurationError, so that a key is never silently incomplete.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import forge
from forge import syntax
from forge.canonical import sha256
from forge.errors import ConfigurationError
from forge.files import sha256_file
from forge.steps import SourceFile
from forge.syntax import name_of

__all__ = ["clear_cache", "sources_of"]

_PACKAGE: Final = "forge"
_DATA_FILES: Final = "DATA_FILES"
_LAZY_TABLE: Final = "_MODULES"
_VERSION: Final = "__version__"
# Names by which a module finds files next to itself.
_LOCATORS: Final = frozenset({"__file__", "__path__", "PackageLoader"})
_FILL: Final = re.compile(r"\{([a-z_]+)\}")
_ROOT: Path = Path(forge.__file__).parent


@dataclass(frozen=True, slots=True)
class _Import:
    """`from module import name`; name is None for `import module`."""

    module: str
    name: str | None


@dataclass(frozen=True, slots=True)
class _Module:
    """The imports and declarations of one module."""

    path: Path
    sha256: str
    imports: frozenset[_Import]
    data_files: tuple[str, ...]
    lazy: Mapping[str, str]
    version: str  # digest of its `__version__`; empty: it has none


def sources_of(module: str, **fill: str) -> tuple[SourceFile, ...]:
    """Return every module and data file that running `module` can load, sorted by name.

    Args:
        module: the entry module, as `python -m` takes it.
        fill: values for the `{name}` of DATA_FILES; one that is not given matches anything.

    Raises:
        ConfigurationError: a module is missing or cannot be followed.
    """
    found = _closure(_ROOT, module)
    files = {file.name: file for file in found.modules}
    for folder, pattern in found.patterns:
        files |= {file.name: file for file in _data(_ROOT, folder, pattern, fill)}
    return tuple(files[name] for name in sorted(files))


def clear_cache() -> None:
    """Clear the cache, after files of Forge changed while this process runs."""
    for function in (_closure, _read, _exists, _hash_data):
        function.cache_clear()


@dataclass(frozen=True, slots=True)
class _Closure:
    modules: tuple[SourceFile, ...]
    patterns: tuple[tuple[Path, str], ...]  # folder and glob of data files


@functools.cache
def _closure(root: Path, entry: str) -> _Closure:
    if not _exists(root, entry):
        raise ConfigurationError(f"There is no module {entry}", why=f"looked for in {root.parent}")
    modules: dict[str, SourceFile] = {}
    patterns: list[tuple[Path, str]] = []
    waiting = [_Import(entry, None)]
    while waiting:
        wanted = waiting.pop()
        for name in _resolve(root, wanted):
            if name in modules:
                continue
            module = _read(root, name)
            modules[name] = SourceFile(name, module.path, module.sha256)
            waiting += module.imports
            for pattern in module.data_files:
                script = _script(root, module.path.parent, pattern)
                if script:
                    waiting.append(_Import(script, None))
                else:
                    patterns.append((module.path.parent, pattern))
        if wanted.name == _VERSION:
            read = _read(root, wanted.module)
            name = f"{wanted.module}.{_VERSION}"
            modules[name] = SourceFile(name, read.path, read.version)
    return _Closure(tuple(modules.values()), tuple(patterns))


def _resolve(root: Path, wanted: _Import) -> Iterator[str]:
    """Yield the names of the modules that one import runs."""
    parts = wanted.module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if not _exists(root, name):
            raise ConfigurationError(f"Forge imports {name}, which is not there")
        yield name
    lazy = _read(root, wanted.module).lazy
    if wanted.name is None or wanted.name == "*":
        # Any name may be asked of the package afterwards, so all of its table counts.
        for submodule in lazy.values():
            yield from _resolve(root, _Import(f"{wanted.module}.{submodule}", None))
    elif _exists(root, f"{wanted.module}.{wanted.name}"):
        yield from _resolve(root, _Import(f"{wanted.module}.{wanted.name}", None))
    elif wanted.name in lazy:
        yield from _resolve(root, _Import(f"{wanted.module}.{lazy[wanted.name]}", None))


@functools.cache
def _exists(root: Path, name: str) -> bool:
    return _path(root, name).is_file()


def _path(root: Path, name: str) -> Path:
    place = root.parent.joinpath(*name.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")


@functools.cache
def _read(root: Path, name: str) -> _Module:
    path = _path(root, name)
    try:
        found = syntax.parse(path.read_bytes(), leave_out=_VERSION)
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read", why=str(error)) from None
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    literals = _literals(found.tree)
    lazy = literals.get(_LAZY_TABLE) if _defines(found.tree, "__getattr__") else None
    if _DATA_FILES not in literals and any(map(_finds_files, found.nodes)):
        why = "it uses __file__, __path__, importlib.resources or a PackageLoader"
        hint = f"name them in {_DATA_FILES}, globs from its own folder; () if it reads none"
        raise ConfigurationError(f"{name} does not declare its data files", why=why, hint=hint)
    if lazy is None and any(map(_computes_import, found.nodes)):
        raise ConfigurationError(
            f"{name} imports a module whose name it computes",
            why="what a step is made of is found by following imports",
            hint=f"name the modules in a literal {_LAZY_TABLE} with a __getattr__",
        )
    return _Module(
        path=path,
        sha256=found.sha256,
        imports=frozenset(_imports(found.nodes, package)),
        data_files=tuple(literals.get(_DATA_FILES, ())),
        lazy=lazy or {},
        version=sha256(ascii(literals.get(_VERSION)).encode()),
    )


def _imports(nodes: tuple[ast.AST, ...], package: str) -> Iterator[_Import]:
    for node in nodes:
        match node:
            case ast.Import(names=names):
                yield from (_Import(one.name, None) for one in names if _ours(one.name))
            case ast.ImportFrom(names=names):
                origin = _origin(node, package)
                if _ours(origin):
                    yield from (_Import(origin, one.name) for one in names)
            case ast.Attribute(value=ast.Name(id="forge"), attr="__version__"):
                yield _Import(_PACKAGE, _VERSION)
            case ast.Call(args=[ast.Constant(value=str() as name), *_]) if _is_import(node):
                if _ours(name):
                    yield _Import(name, None)


def _is_import(node: ast.Call) -> bool:
    return name_of(node.func) in {"import_module", "__import__", "run_module"}


def _computes_import(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not _is_import(node):
        return False
    return not node.args or not isinstance(node.args[0], ast.Constant)


def _origin(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _ours(module: str) -> bool:
    return module == _PACKAGE or module.startswith(f"{_PACKAGE}.")


def _literals(tree: ast.Module) -> dict[str, Any]:
    """Return the module's own constants that say something about its closure."""
    found = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.AST() as value):
                pass
            case _:
                continue
        if name in {_DATA_FILES, _LAZY_TABLE, _VERSION}:
            found[name] = ast.literal_eval(value)
    return found


def _defines(tree: ast.Module, function: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def _finds_files(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "files":
        return name_of(node.value) == "resources"
    return name_of(node) in _LOCATORS


def _script(root: Path, folder: Path, pattern: str) -> str:
    """Return the module that a pattern names, or an empty text if it is not a module."""
    path = folder / pattern
    if path.suffix != ".py" or "*" in pattern or "{" in pattern:
        return ""
    packages = path.parent.relative_to(root.parent).parts
    name = ".".join((*packages, path.stem))
    inside = all(
        root.parent.joinpath(*packages[:end], "__init__.py").is_file()
        for end in range(1, len(packages) + 1)
    )
    return name if inside else ""


def _data(root: Path, folder: Path, pattern: str, fill: Mapping[str, str]) -> Iterator[SourceFile]:
    filled = _FILL.sub(lambda match: fill.get(match.group(1), "*"), pattern)
    found = [
        path for path in sorted(folder.glob(filled)) if path.is_file() and path.suffix != ".pyc"
    ]
    if not found and filled == pattern:
        where = folder.relative_to(root.parent).as_posix()
        raise ConfigurationError(f"{_DATA_FILES} in {where} names {pattern}, which is not there")
    for path in found:
        yield SourceFile(path.relative_to(root.parent).as_posix(), path, _hash_data(path))


@functools.cache
def _hash_data(path: Path) -> str:
    return sha256_file(path)
