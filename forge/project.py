"""A project is a folder with `pipelines/`, `stages/`, `profiles/` and `dockerfiles/`.

Pipelines are loaded as nox loads a noxfile: the folder is added to `sys.path`, and
`pipelines/NAME.py` must define a function NAME that returns a Plan. Its keyword-only parameters are
the options of the pipeline; Forge provides the other parameters by name.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_type_hints

from forge.errors import ConfigurationError, not_found
from forge.plan import Plan

__all__ = ["RESERVED", "Option", "Pipeline", "Project", "find"]

_SCALARS: Final = (str, int, float, bool)
# Options of `forge plan|run|why|matrix` themselves (forge/cli/pipeline.py).
RESERVED: Final = frozenset(
    {"as_json", "json", "jobs", "keys", "only", "profile", "project", "runner", "set", "skip",
     "step", "store", "verbose", "yes"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """A keyword-only parameter of a pipeline."""

    name: str
    type: type
    default: Any
    required: bool
    help: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A loaded pipeline function.

    Attributes:
        given: names of the parameters that Forge provides, in order.
        options: the parameters that the user sets.
    """

    name: str
    function: Callable[..., Plan]
    given: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def help(self) -> str:
        """Return the docstring of the function up to its argument list."""
        return (inspect.getdoc(self.function) or "").partition("\nArgs:")[0].strip()

    def plan(self, given: Mapping[str, object], options: Mapping[str, object]) -> Plan:
        """Call the function. Raises ConfigurationError for an unknown parameter."""
        unknown = [name for name in self.given if name not in given]
        if unknown:
            raise ConfigurationError(
                f"Pipeline {self.name!r} has an unknown parameter {unknown[0]!r}",
                why=f"Forge provides {', '.join(given)}",
                hint="to make it an option, declare it as a keyword-only parameter (after *)",
            )
        plan = self.function(*(given[name] for name in self.given), **options)
        if not isinstance(plan, Plan):
            raise ConfigurationError(f"Pipeline {self.name!r} did not return a forge.plan.Plan")
        return plan


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder."""

    root: Path

    @property
    def profiles(self) -> Path:
        """Return the folder of the profiles."""
        return self.root / "profiles"

    @property
    def work(self) -> Path:
        """Return Forge's working folder in the project; safe to delete."""
        return self.root / ".forge"

    def pipelines(self) -> list[str]:
        """Return the names of the pipelines, sorted."""
        return sorted(
            path.stem for path in (self.root / "pipelines").glob("*.py") if path.stem[0] != "_"
        )

    def load(self, name: str) -> Pipeline:
        """Import pipeline `name`. Raises NotFoundError or ConfigurationError."""
        path = self.root / "pipelines" / f"{name}.py"
        if name not in self.pipelines():
            raise not_found(f"No pipeline {name!r} in {path.parent}", name, self.pipelines())
        function = getattr(_import(path, self.root), name, None)
        if not callable(function):
            raise ConfigurationError(f"{path} defines no function {name!r}")
        return _inspect(name, function)


def find(start: Path) -> Project:
    """Return the project that contains `start`. Raises ConfigurationError."""
    for folder in [start, *start.parents]:
        if (folder / "pipelines").is_dir() and (folder / "profiles").is_dir():
            return Project(folder)
    raise ConfigurationError(
        f"No Forge project in {start} or any parent folder",
        why="a project has the folders pipelines/ and profiles/",
        hint="use --project DIR, or write a new project with: forge init DIR",
    )


def _import(path: Path, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    spec = importlib.util.spec_from_file_location(f"forge_pipeline_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{path} cannot be imported", why=why) from error
    return module


def _inspect(name: str, function: Callable[..., Plan]) -> Pipeline:
    hints = get_type_hints(function)
    given = []
    options = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            given.append(parameter.name)
            continue
        if parameter.name in RESERVED:
            raise ConfigurationError(
                f"Option {parameter.name!r} of pipeline {name!r} is reserved",
                hint=f"choose a name other than {', '.join(sorted(RESERVED))}",
            )
        kind = hints.get(parameter.name, str)
        if kind not in _SCALARS:
            raise ConfigurationError(
                f"Option {parameter.name!r} of pipeline {name!r} has unsupported type {kind}",
                why="supported types are str, int, float and bool",
            )
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        text = _argument_help(function, parameter.name)
        options.append(Option(parameter.name, kind, default, required, text))
    return Pipeline(name, function, tuple(given), tuple(options))


def _argument_help(function: Callable[..., Plan], name: str) -> str:
    for line in (inspect.getdoc(function) or "").splitlines():
        if line.strip().startswith(f"{name}:"):
            return line.strip().removeprefix(f"{name}:").strip()
    return ""
