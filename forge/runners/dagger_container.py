"""What a step becomes for Dagger: pure data, decided before an engine is contacted.

    /forge/inputs/NAME       an input tree
    /forge/outputs/NAME      empty; what the command leaves there is exported
    /forge/documents/        settings.json, digests.json, chain.json
    /forge/sources/FILE      source files the command names
    /forge/locks/NAME/       locks the command names
    /forge/source/forge      Forge's own package, for `${python} -m forge…`
    /opt/NAME                a tool environment, made from dockerfiles/NAME/requirements.lock

Tool environments are made from the same locks as the local runner's, on a base image's own Python,
in execs of their own, so that the engine keeps them and every step with the same lock shares them.
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
from forge.runners.dagger_settings import DaggerSettings
from forge.steps import Step, placeholders, substitute

__all__ = ["ContainerPlan", "Mount", "ToolImage", "container_plan", "stays_here"]

FORGE: Final = "forge"
_ROOT: Final = "/forge"
_DEFAULT_PYTHON: Final = "3.11"
# The image's own certificates, its own Python, and copies out of a cache on another disk.
UV: Final = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}
# Where pip and hubs are found; handed over as secrets because such a URL may hold a password.
NETWORK: Final = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HF_ENDPOINT"),
    *("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"),
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of this machine and its path in the container."""

    host: Path
    path: str


@dataclass(frozen=True, slots=True)
class ToolImage:
    """A virtual environment to make in a container.

    Attributes:
        name: it lies in `/opt/<name>`.
        lock: requirements with a version and hashes for every package.
        python: what uv looks for: `3.11`, or `>=3.11` for Forge itself.
        packages_path: a folder its interpreter also imports from; None for most.
    """

    name: str
    lock: Path
    python: str
    packages_path: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One step's container.

    Attributes:
        step: the step's id.
        platform: `linux/arm64`.
        engine: address of the engine; None for Dagger's own default.
        image: what container and tool environments start from.
        tools: environments, made first and mounted.
        folders: mounted folders of this machine.
        files: mounted files of this machine.
        outputs: folder of this machine by path in the container.
        env: environment variables.
        secrets: secret environment variables; never printed.
        argv: the command with the container's paths in it.
        gpu: whether it needs the engine's GPUs.
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
    """Why a step runs beside the scheduler and not in a container; empty when it does not.

    The store and the signing keys stay on the machine that has them.
    """
    if step.effect:
        return "it acts on the outside"
    used = {kind for kind, _ in placeholders(step.argv)}
    if "keys" in used:
        return "it signs, and the keys stay on this machine"
    if "store" in used:
        return "it reads the store"
    if any(word.startswith("file:") for word in step.argv):
        return "it reads a file of this machine"
    return ""


def container_plan(
    job: Job, documents: Path, settings: DaggerSettings, environment: Mapping[str, str], host: str
) -> ContainerPlan:
    """The container for `job`.

    Args:
        job: the step with its folders.
        documents: folder that holds settings.json, digests.json and chain.json.
        settings: engines and base image.
        environment: the caller's environment variables, of which the step sees its secrets.
        host: this machine's platform.

    Raises:
        NoRunnerError: the step's environments need two Pythons, which no one image has.
        ConfigurationError: this installation of Forge lacks its own lock.
    """
    step = job.step
    platform, engine = settings.engine(step.platform, host)
    tools = [ToolImage(one.name, one.lock, one.python) for one in step.environments]
    folders = [Mount(path, f"{_ROOT}/inputs/{name}") for name, path in job.inputs.items()]
    folders.append(Mount(documents, f"{_ROOT}/documents"))
    if ("python", None) in placeholders(step.argv):
        tools.append(ToolImage(FORGE, own_lock(), f">={_DEFAULT_PYTHON}", f"{_ROOT}/source"))
        folders.append(Mount(Path(forge.__file__).parent, f"{_ROOT}/source/forge"))
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
    """The lines of one package in a lock: its version and hashes.

    Raises ConfigurationError if the lock does not name it.
    """
    match = re.search(rf"^{re.escape(package)}==.*(?:\n[ \t]+.*)*$", lock, re.MULTILINE)
    if match is None:
        raise ConfigurationError(f"Forge's requirements.lock does not name {package}")
    return match.group(0) + "\n"


def _one_python(step: Step) -> str:
    wanted = sorted({environment.python for environment in step.environments})
    if len(wanted) > 1:
        raise NoRunnerError(
            f"Step {step.id} cannot run in a container",
            why=f"its environments need Python {' and '.join(wanted)}, and an image has one",
            hint="run it by the local runner: --runner local",
        )
    return wanted[0] if wanted else _DEFAULT_PYTHON


def _files(step: Step) -> tuple[Mount, ...]:
    named = set(placeholders(step.argv))
    paths = _Paths(step)
    sources = [one for one in step.sources if ("source", one.name) in named]
    return (
        *(Mount(source.path, paths("source", source.name)) for source in sources),
        *(Mount(lock.lock, paths("lock", lock.name)) for lock in step.locks),
    )


class _Paths:
    """Where each placeholder of a step's command lies in the container."""

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
