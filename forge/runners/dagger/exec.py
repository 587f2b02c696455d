"""Execute a ContainerPlan with the SDK: environments, command, log, outputs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import dagger
from gql.transport.exceptions import TransportQueryError

from forge.errors import ForgeError, StepFailedError
from forge.images.lock import own_lock
from forge.runners.dagger.container import (
    NETWORK,
    UV,
    ContainerPlan,
    ToolImage,
    locked_lines,
)
from forge.runners.dagger.failures import EngineFailure, engine_error, engine_failure, is_full

__all__ = ["Ended", "run"]

_UV: Final = "/opt/uv"
_CACHES: Final = {"/root/.cache/uv": "forge-uv", "/root/.cache/pip": "forge-pip"}
_KEY_CHARACTERS: Final = 16
# With two pipes, the lines of stdout and stderr would be out of order.
_ONE_STREAM: Final = ("sh", "-c", 'exec "$@" 2>&1', "sh")
_LAST_LINES: Final = 20
_ANY_FAILURE: Final = 1  # Python's traceback, and most programs; Forge's own codes say more
# What the engine answers; TransportQueryError is one in a form that the SDK does not know. That it
# does not answer is an error of the session.
_FAILURES: Final = (dagger.QueryError, TransportQueryError)


@dataclass(frozen=True, slots=True)
class Ended:
    """Result of a command: exit code, wall time of the command in seconds, output."""

    exit_code: int
    seconds: float
    output: str


async def run(client: dagger.Client, plan: ContainerPlan, note: Callable[[str], None]) -> Ended:
    """Run the command and, if it succeeds, export its outputs.

    Args:
        client: an open session.
        plan: the container.
        note: called with a line before each slow operation.

    Raises:
        StepFailedError: the image, an environment or the export failed.
        EngineError: the engine says that its disk is full, or its network broke.
        dagger.ClientError: the engine does not answer.
    """
    container = await _prepared(client, plan, note)
    started = time.monotonic()
    try:
        argv = [*_ONE_STREAM, *plan.argv]
        done = await container.with_exec(argv, expect=dagger.ReturnType.ANY).sync()
        seconds = time.monotonic() - started
        code, output = await done.exit_code(), await done.combined_output()
        if code == 0:
            for path, folder in plan.outputs.items():
                await done.directory(path).export(str(folder))
    except _FAILURES as error:
        raise _failed(plan, "could not be run by Dagger", error) from None
    if code == _ANY_FAILURE and is_full(output):
        raise engine_error(plan.step, EngineFailure.FULL, plan.engine, output.splitlines())
    return Ended(code, seconds, output)


async def _prepared(
    client: dagger.Client, plan: ContainerPlan, note: Callable[[str], None]
) -> dagger.Container:
    """Return the container without the command: image, environments, inputs, secrets."""
    base = client.container(platform=dagger.Platform(plan.platform)).from_(plan.image)
    try:
        await base.sync()
    except _FAILURES as error:
        raise _failed(plan, f"could not use the image {plan.image}", error) from None
    container = base
    for tool in plan.tools:
        note(f"installing environment {tool.name}, unless the engine has cached it")
        try:
            made = await _environment(client, base, tool, plan).sync()
        except _FAILURES as error:
            raise _failed(plan, f"could not install the environment {tool.name}", error) from None
        container = container.with_mounted_directory(f"/opt/{tool.name}", made)
    container = _with_files(client, container, plan)
    for name, value in plan.env.items():
        container = container.with_env_variable(name, value)
    container = _with_secrets(client, container, plan.secrets)
    if plan.gpu:
        container = container.experimental_with_all_gp_us()
    return container.with_workdir("/forge")


def _with_files(
    client: dagger.Client, container: dagger.Container, plan: ContainerPlan
) -> dagger.Container:
    host = client.host()
    for mount in plan.folders:
        folder = host.directory(str(mount.host), exclude=list(mount.exclude))
        container = container.with_mounted_directory(mount.path, folder)
    for mount in plan.files:
        container = container.with_mounted_file(mount.path, host.file(str(mount.host)))
    for path in plan.outputs:
        container = container.with_directory(path, client.directory())
    return container


def _environment(
    client: dagger.Client, base: dagger.Container, tool: ToolImage, plan: ContainerPlan
) -> dagger.Directory:
    """Return the folder /opt/<name>, made with the same uv and options as by the local runner."""
    target = f"/opt/{tool.name}"
    lock = tool.lock.read_text()
    container = _with_uv(client, base, plan, lock).with_new_file("/forge/lock", lock)
    container = container.with_exec([f"{_UV}/bin/uv", "venv", "--python", tool.python, target])
    container = container.with_exec(
        [f"{_UV}/bin/uv", "pip", "sync", "--require-hashes", "--compile-bytecode",
         "--link-mode", "copy",
         "--only-binary", ":all:", "--python", f"{target}/bin/python", "/forge/lock"]
    )  # fmt: skip
    if tool.packages_path is not None:
        script = (
            "import pathlib, sysconfig; "
            f"pathlib.Path(sysconfig.get_path('purelib'), 'forge.pth').write_text("
            f"{tool.packages_path + chr(10)!r})"
        )
        container = container.with_exec([f"{target}/bin/python", "-c", script])
    return container.directory(target)


def _with_uv(
    client: dagger.Client, base: dagger.Container, plan: ContainerPlan, lock: str
) -> dagger.Container:
    """Return `base` with the caches and the uv version of Forge's own lock file."""
    container = _with_caches(client, base, _cache_key(plan, lock))
    for name, value in UV.items():
        container = container.with_env_variable(name, value)
    network = {name: value for name, value in plan.secrets.items() if name.upper() in NETWORK}
    container = _with_secrets(client, container, network)
    uv_lock = locked_lines(own_lock().read_text(), "uv")
    container = container.with_new_file("/forge/uv.lock", uv_lock)
    container = container.with_exec(["python3", "-m", "venv", _UV])
    install = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", "/forge/uv.lock"]
    return container.with_exec([f"{_UV}/bin/python", "-m", *install])


def _with_caches(client: dagger.Client, container: dagger.Container, key: str) -> dagger.Container:
    """Return the container with caches that the steps never see, and no other environment.

    uv does not check again what its cache holds: a step, or an image's own `python3`, that writes
    there would change the hash-checked environments of others.
    """
    for path, name in _CACHES.items():
        container = container.with_mounted_cache(path, client.cache_volume(f"{name}-{key}"))
    return container


def _cache_key(plan: ContainerPlan, lock: str) -> str:
    """Return the key of an environment's caches: the platform, the image and the lock."""
    text = f"{plan.platform}\n{plan.image}\n{lock}"
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_CHARACTERS]


def _with_secrets(
    client: dagger.Client, container: dagger.Container, secrets: Mapping[str, str]
) -> dagger.Container:
    for name, value in secrets.items():
        container = container.with_secret_variable(name, client.set_secret(name, value))
    return container


def _failed(plan: ContainerPlan, what: str, error: Exception) -> ForgeError:
    """Return the error: of the engine, or of the image with the last lines of an installer."""
    printed = f"{error.stdout}\n{error.stderr}" if isinstance(error, dagger.ExecError) else ""
    said = f"{error}\n{printed}"
    if failure := engine_failure(said):
        return engine_error(plan.step, failure, plan.engine, said.splitlines())
    lines = [line for line in printed.splitlines() if line.strip()][-_LAST_LINES:]
    why = "\n".join([str(error), *(f"  | {line}" for line in lines)])
    hint = "see docs/reference/runners.md for the requirements of an image, or use --runner local"
    return StepFailedError(f"Step {plan.step} {what}", why=why, hint=hint)
