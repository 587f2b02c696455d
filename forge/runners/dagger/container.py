"""The container of a step, as data, planned before an engine is contacted. Pure.

    /forge/inputs/NAME       an input tree
    /forge/outputs/NAME      an empty folder, exported after the command
    /forge/documents/        settings.json, digests.json, chain.json
    /forge/sources/FILE      source files of the step
    /forge/locks/NAME/       lock files of the step
    /forge/source/forge      Forge's own package, for `${python} -m forge…`
    /opt/NAME                a tool environment, made from dockerfiles/NAME/requirements.lock

Tool environments are made from the same lock files as for the local runner, with the Python of a
base image, each in a separate exec, so that the engine caches them and steps share them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import forge
from forge.errors import ConfigurationError, NoRunnerError
from forge.images.lock import own_lock
from forge.runners.base import Job
from forge.runners.dagger.settings import DaggerSettings
from forge.steps import Step, placeholders, substitute

__all__ = ["ContainerPlan", "Mount", "ToolImage", "container_plan", "stays_here"]

FORGE: Final = "forge"
_ROOT: Final = "/forge"
_DEFAULT_PYTHON: Final = "3.11"
# Use the image's certificates and Python, and copy files, since the cache is on another volume.
UV: Final = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}
# URLs of package indexes and hubs, passed as secrets because they may contain a password.
NETWORK: Final = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HF_ENDPOINT"),
    *("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"),
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder on this machine and its path in the container.

    Attributes:
        host: path on this machine.
        path: path in the container.
        exclude: patterns of what is left out. Only of Forge's own package: a step must see all of
            its inputs, as it does with the local runner, since both have the same key.
    """

    host: Path
    path: str
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolImage:
    """A virtual environment to make in a container.

    Attributes:
        name: name of the folder in `/opt`.
        lock: requirements with a version and hashes for every package.
        python: version request for uv: `3.11`, or `>=3.11` for Forge itself.
        packages_path: additional folder on the interpreter's path, or None.
    """

    name: str
    lock: Path
    python: str
    packages_path: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """The container of one step.

    Attributes:
        step: the step's id.
        platform: `linux/arm64`.
        engine: address of the engine; None for Dagger's default engine.
        image: base image of the container and the tool environments.
        tools: tool environments to make and mount.
        folders: mounted folders.
        files: mounted files.
        outputs: folder on this machine by path in the container.
        env: environment variables.
        secrets: secret environment variables; never printed.
        argv: the command, with paths in the container.
        gpu: whether it uses the GPUs of the engine.
    """

    step: str
    platform: str
    engine: str | None
    image: str
    tools: tuple[ToolImage, ...]
    folders: tuple[Mount, ...]
    files: tuple[Mount, ...]
    outputs: Mapping[str, Path]
    env: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    argv: tuple[str, ...]
    gpu: bool


_GPU_LABELS: Final = ("gpu-", "jetson-")


def stays_here(step: Step) -> str:
    """Return why a step runs on this machine instead of in a container; empty if it does not.

    The store and the signing keys are available only on this machine.
    """
    if step.effect:
        return "it has effects outside the store"
    used = {kind for kind, _ in placeholders(step.argv)}
    if "keys" in used:
        return "it uses the signing keys of this machine"
    if "store" in used:
        return "it reads the store"
    if any(word.startswith("file:") for word in step.argv):
        return "it reads a file of this machine"
    return ""


def container_plan(
    job: Job, documents: Path, settings: DaggerSettings, environment: Mapping[str, str], host: str
) -> ContainerPlan:
    """Return the container of a job.

    Args:
        job: the step with its folders.
        documents: folder that holds settings.json, digests.json and chain.json.
        settings: engines and base image.
        environment: the caller's environment variables; the step gets its secrets of these.
        host: this machine's platform.

    Raises:
        NoRunnerError: the step's environments require two Python versions; an image has one.
        ConfigurationError: this installation of Forge does not include its lock file.
    """
    step = job.step
    platform, engine = settings.engine(step.platform, host)
    tools = [ToolImage(one.name, one.lock, one.python) for one in step.environments]
    folders = [Mount(path, f"{_ROOT}/inputs/{name}") for name, path in job.inputs.items()]
    folders.append(Mount(documents, f"{_ROOT}/documents"))
    if ("python", None) in placeholders(step.argv):
        tools.append(ToolImage(FORGE, own_lock(), f">={_DEFAULT_PYTHON}", f"{_ROOT}/source"))
        package = Path(forge.__file__).parent
        folders.append(Mount(package, f"{_ROOT}/source/forge", exclude=("**/__pycache__",)))
    return ContainerPlan(
        step=step.id,
        platform=platform,
        engine=engine,
        image=step.image or settings.base.format(python=_one_python(step)),
        tools=tuple(tools),
        folders=tuple(folders),
        files=_files(step),
        outputs={f"{_ROOT}/outputs/{name}": path for name, path in job.outputs.items()},
        env={**UV, **step.env, "PYTHONUNBUFFERED": "1"},
        secrets={
            name: value
            for name, value in environment.items()
            if value and (name in step.secrets or name.upper() in NETWORK)
        },
        argv=tuple(substitute(step.argv, _Paths(step))),
        gpu=any(label.startswith(_GPU_LABELS) for label in step.labels),
    )


def locked_lines(lock: str, package: str) -> str:
    """Return the lines of one package in a lock file: its version and hashes.

    Raises ConfigurationError if the lock file does not list it.
    """
    match = re.search(rf"^{re.escape(package)}==.*(?:\n[ \t]+.*)*$", lock, re.MULTILINE)
    if match is None:
        raise ConfigurationError(f"Forge's requirements.lock does not list {package}")
    return match.group(0) + "\n"


def _one_python(step: Step) -> str:
    wanted = sorted({environment.python for environment in step.environments})
    if len(wanted) > 1:
        raise NoRunnerError(
            f"Step {step.id} cannot run in a container",
            why=f"its environments require Python {' and '.join(wanted)}, but an image has one",
            hint="use the local runner: --runner local",
        )
    return wanted[0] if wanted else _DEFAULT_PYTHON


def _files(step: Step) -> tuple[Mount, ...]:
    named = set(placeholders(step.argv))
    paths = _Paths(step)
    folders = {one.path.parent for one in step.sources if ("source", one.name) in named}
    # With a script go the modules of its folder, which it imports.
    sources = [one for one in step.sources if one.path.parent in folders]
    return (
        *(Mount(source.path, paths("source", source.name)) for source in sources),
        *(Mount(lock.lock, paths("lock", lock.name)) for lock in step.locks),
    )


class _Paths:
    """Maps the placeholders of a step's command to paths in the container."""

    def __init__(self, step: Step) -> None:
        self._sources = {source.name: source.path.name for source in step.sources}

    def __call__(self, kind: str, name: str | None) -> str:
        match kind, name:
            case "python", _:
                return f"/opt/{FORGE}/bin/python"
            case _, None:
                return f"{_ROOT}/documents/{kind}.json"
            case "tools", _:
                return f"/opt/{name}"
            case "source", _:
                return f"{_ROOT}/sources/{self._sources[name]}"
            case "lock", _:
                return f"{_ROOT}/locks/{name}/requirements.lock"
            case _:
                return f"{_ROOT}/{kind}/{name}"
