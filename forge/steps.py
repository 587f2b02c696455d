"""A step is pure data: what to run, on which inputs, with which tools, and where.

A step's command is a tuple of words with placeholders the runner fills in:

    ${inputs.NAME}     folder that holds the input tree
    ${outputs.NAME}    empty folder whose content becomes the output tree
    ${settings}        JSON file with the step's settings, and nothing else of the profile
    ${digests}         JSON file {input name: tree digest}, also for inputs that are not unpacked
    ${chain}           JSON list of `Link`s: every stored step this one descends from
    ${tools.NAME}      virtual environment made from dockerfiles/NAME/requirements.lock
    ${lock.NAME}       the lock file of an environment the command does not use itself
    ${source.NAME}     one of the step's own source files
    ${python}          the interpreter that runs Forge
    ${store}           URL of the store
    ${keys}            folder of the signing keys (steps that sign)

Because a command sees the profile through `${settings}` only, the key is complete: a value that is
not in the key is not available to the step.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge import canonical, syntax
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.files import sha256_file

__all__ = [
    "WARNING",
    "Artifact",
    "Environment",
    "Key",
    "Link",
    "SourceFile",
    "Step",
    "key_of",
    "lock_command",
    "locked",
    "placeholders",
    "source",
    "sources",
    "substitute",
    "tool",
    "uses_keys",
    "walk",
]

KEY_VERSION: Final = 2
WARNING: Final = "forge warning: "  # begins a line of a command that its user must see
_COARSE_NS: Final = 2_000_000_000  # FAT counts time in steps of 2 s
_STEP_ID = re.compile(r"[a-z0-9][a-z0-9_.-]*(@[a-z0-9][a-z0-9_.-]*)?")
_PLACEHOLDER = re.compile(r"\$\{([a-z]+)(?:\.([A-Za-z0-9_.-]+))?\}")


@dataclass(frozen=True, slots=True)
class Environment:
    """A locked tool environment: `dockerfiles/<name>/requirements.lock` on one Python."""

    name: str
    lock: Path = field(compare=False)
    lock_sha256: str
    python: str  # "3.11"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the step's command is made of; its digest is part of the key."""

    name: str
    path: Path = field(compare=False)
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """One output tree of a step: knows the step that makes it."""

    step: Step
    output: str

    def __str__(self) -> str:
        return f"{self.step.id}/{self.output}"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What to run, where, on which inputs. Two steps are one if they are the same object.

    Attributes:
        id: `stage@profile`, or `stage` alone when no SKU matters. Unique in a plan.
        argv: the command, with placeholders.
        inputs: artifacts by name.
        references: names of inputs that are passed by digest and not unpacked.
        outputs: names of the trees the command writes.
        settings: all the command may know of profile and pipeline parameters.
        env: extra environment variables, part of the key.
        environments: tool environments the command uses; the runner makes them first.
        locks: tool environments the command reads the lock of, but does not use.
        sources: Forge's own code: see `forge.closure`, and `source` for a tool outside of it.
        libraries: version by name of the packages that decide what `${python}` writes.
        image: container image the command runs in; None: its environments are enough.
        platform: `linux/amd64`, `linux/arm64`, or None where the result is the same on any.
        labels: what a runner must offer in addition to the platform, e.g. `gpu-sm120`. Part of the
            key of an exclusive step: a measurement is valid for the kind of machine it ran on.
        programs: what must be on the machine that runs the command, e.g. `buildah`.
        secrets: names of environment variables handed through, never in the key nor in a log.
        effect: acts on the outside (publish, promote): never taken from the cache.
        exclusive: measures; nothing else runs at the same time.
        planned_only: why no runner can run this yet; empty when one can.
        alternative: another way to the same result, for users without such a runner.
    """

    id: str
    argv: tuple[str, ...]
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    references: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
    locks: tuple[Environment, ...] = ()
    sources: tuple[SourceFile, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    platform: str | None = None
    labels: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    effect: bool = False
    exclusive: bool = False
    planned_only: str = ""
    alternative: str = ""

    def __post_init__(self) -> None:
        if not _STEP_ID.fullmatch(self.id):
            raise ConfigurationError(
                f"Step id {self.id!r} is not of the form stage or stage@profile"
            )
        known = {
            "inputs": set(self.inputs) - self.references,
            "outputs": set(self.outputs),
            "tools": {environment.name for environment in self.environments},
            "lock": {lock.name for lock in self.locks},
            "source": {source.name for source in self.sources},
        }
        for kind, name in placeholders(self.argv):
            if name not in known.get(kind, {None}):
                message = f"Step {self.id}: ${{{kind}.{name}}} is not declared by the step"
                raise ConfigurationError(message)

    def __getitem__(self, output: str) -> Artifact:
        """The artifact of one output. Raises ConfigurationError if there is no such output."""
        if output not in self.outputs:
            raise ConfigurationError(f"Step {self.id} has no output {output!r}: {self.outputs}")
        return Artifact(self, output)


@dataclass(frozen=True, slots=True)
class Key:
    """Digest of everything that determines a step's result, and the fields it is computed from."""

    digest: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Link:
    """What a stored step was made of and made: one link of a bundle's chain.

    Attributes:
        step: the step's id.
        key: digest of its key.
        inputs: tree digest by input name.
        outputs: tree digest by output name.
        seconds: wall time of the command.
        started: RFC 3339, UTC.
        runner: name and platform of what ran it.
        builder: name of the trusted builder that signed the result; empty: it is not signed.
        materials: what the step was given besides trees: digest or URI of locks, images,
            downloads, by name.
    """

    step: str
    key: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    seconds: float
    started: str
    runner: str
    builder: str = ""
    materials: Mapping[str, str] = field(default_factory=dict)


def lock_command(folder: Path) -> str:
    """Return the command that writes the lock file of a tool environment."""
    name = f"{folder.parent.name}/{folder.name}/requirements"
    return f"uv pip compile --universal --generate-hashes {name}.in -o {name}.lock"


def locked(folder: Path, python: str = "3.11") -> Environment:
    """Return the tool environment of `dockerfiles/<name>`.

    Raises ConfigurationError if the folder holds no requirements.lock.
    """
    lock = folder / "requirements.lock"
    if not lock.is_file():
        hint = f"write {folder.name}/requirements.in and run: {lock_command(folder)}"
        raise ConfigurationError(f"Tool environment {folder.name!r} has no lock", hint=hint)
    return Environment(folder.name, lock, _sha256(lock, _state(lock.stat())), python)


def sources(*folders: Path) -> tuple[SourceFile, ...]:
    """Return all Python files, templates and data files below `folders`, named from their folder.

    Hashed by their bytes, for a step that packs the files. For code that runs: `forge.closure`.
    """
    files = {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".py", ".j2", ".json", ".yaml"}
    }
    return tuple(SourceFile(name, path, sha256_file(path)) for name, path in files.items())


def source(path: Path) -> SourceFile:
    """Return a file of a builder's own code, named by its stem in `${source.NAME}`.

    A script is hashed by its syntax tree, as the modules of `forge.closure`; other files by their
    bytes. Raises ConfigurationError for a script that is not valid Python.
    """
    if path.suffix != ".py":
        return SourceFile(path.stem, path, sha256_file(path))
    try:
        return SourceFile(path.stem, path, syntax.parse(path.read_bytes()).sha256)
    except (SyntaxError, ValueError) as error:
        raise ConfigurationError(f"{path} is not valid Python", why=str(error)) from None


def tool(script: Path) -> tuple[SourceFile, ...]:
    """Return a script that runs in a tool environment, first, and the modules it imports.

    The modules are files of the script's folder, from which Python imports them. Raises
    ConfigurationError for a file that is not valid Python.
    """
    with os.scandir(script.parent) as entries:
        states = tuple((one.name, *_state(one.stat())) for one in entries if one.is_file())
    return _tool(script, states)


@functools.lru_cache(maxsize=64)  # a plan asks for the same tools for each of its profiles
def _tool(script: Path, _states: tuple[tuple[str | int, ...], ...]) -> tuple[SourceFile, ...]:
    """Return what `tool` does; other states of the folder's files are other calls."""
    found = {script: source(script)}
    waiting = [script]
    while waiting:
        for name in sorted(syntax.parse(waiting.pop().read_bytes()).imported):
            module = script.parent / f"{name}.py"
            if module not in found and module.is_file():
                found[module] = source(module)
                waiting.append(module)
    return tuple(found.values())


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, _state: tuple[int, ...]) -> str:
    """Return the digest of a file; another state of it is another call."""
    return sha256_file(path)


def _state(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced, as git's index compares it.

    A file system's clock is coarse: a file of this moment may change once more without another
    time, so that its state is never equal to an earlier one.
    """
    age = time.time_ns() - found.st_mtime_ns
    now = time.monotonic_ns() if age < _COARSE_NS else 0
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, now


def placeholders(argv: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return all `${kind.name}` of a command in order; name is None for `${settings}` etc."""
    return [(kind, name or None) for word in argv for kind, name in _PLACEHOLDER.findall(word)]


def uses_keys(step: Step) -> bool:
    """Return whether the command of a step gets the folder of the signing keys."""
    return any(kind == "keys" for kind, _ in placeholders(step.argv))


def substitute(argv: Iterable[str], value: Callable[[str, str | None], str]) -> list[str]:
    """Return a command with every placeholder replaced by `value(kind, name)`."""
    return [
        _PLACEHOLDER.sub(lambda match: value(match.group(1), match.group(2)), word) for word in argv
    ]


def key_of(step: Step, inputs: Mapping[str, str]) -> Key:
    """Return the key of `step` for inputs with these tree digests.

    It does not contain the step's id or the profile's name: equal work for two SKUs has one key.
    """
    fields: dict[str, str] = {"version": str(KEY_VERSION), "platform": step.platform or "any"}
    fields |= {f"argv[{index}]": word for index, word in enumerate(step.argv)}
    fields |= {f"input {name}": digest for name, digest in inputs.items()}
    fields |= {f"output {name}": "" for name in step.outputs}
    fields |= {f"setting {path}": text for path, text in _flat(step.settings)}
    fields |= {f"env {name}": value for name, value in step.env.items()}
    for environment in (*step.environments, *step.locks):
        fields[f"environment {environment.name}"] = environment.lock_sha256
        fields[f"environment {environment.name} python"] = environment.python
    fields |= {f"source {source.name}": source.sha256 for source in step.sources}
    fields |= {f"library {name}": version for name, version in step.libraries.items()}
    if step.image is not None:
        fields["image"] = step.image
    if step.exclusive and step.labels:
        fields["labels"] = ",".join(sorted(step.labels))
    return Key(canonical.digest(fields), dict(sorted(fields.items())))


def walk(artifacts: Iterable[Artifact]) -> list[Step]:
    """Return every step needed for `artifacts`, each once, in order of dependency.

    Raises ConfigurationError when two different steps have one id.
    """
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        known = ordered.get(step.id)
        if known is step:
            return
        if known is not None:
            raise ConfigurationError(f"Two different steps have the id {step.id!r}")
        for artifact in step.inputs.values():
            visit(artifact.step)
        if ordered.setdefault(step.id, step) is not step:
            raise ConfigurationError(f"Two different steps have the id {step.id!r}")

    for artifact in artifacts:
        visit(artifact.step)
    return list(ordered.values())


def _flat(value: Mapping[str, Json], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, item in value.items():
        path = f"{prefix}{name}"
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{path}.")
        else:
            yield path, canonical.dumps(item).decode()
