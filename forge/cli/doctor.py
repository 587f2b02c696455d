"""`forge doctor`: what this machine lacks, for which builder and runner, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from forge.cli.common import json_option, open_project, print_json, print_table, project_option
from forge.errors import ConfigurationError, NoRunnerError

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what needs it, whether it is there, and the command that fixes it."""

    needed_by: str
    what: str
    ok: bool
    found: str
    fix: str = ""


def checks(
    which: Callable[[str], str | None], environment: Mapping[str, str], root: Path
) -> Iterator[Check]:
    """Everything this version of Forge can use, looked up on this machine."""
    yield _python()
    yield _program(which, "everything", "git", "apt-get install git")
    yield _uv()
    yield _libpython()
    yield _space(Path.cwd())
    yield from _builders(which)
    yield _program(which, "images", "buildah", "apt-get install buildah")
    yield _program(which, "images --push, images update", "skopeo", "apt-get install skopeo")
    yield _dagger(environment, root)
    yield from _keys(environment, root)


def _builders(which: Callable[[str], str | None]) -> Iterator[Check]:
    machine = platform.machine()
    elsewhere = "forge run release --only 'GLOB' there, with this --store; see forge plan"
    for builder in ("tensorrt-rtx", "edge-llm (quantise, export)"):
        needed = f"builder {builder}"
        yield Check(needed, "amd64 machine", machine == "x86_64", machine, elsewhere)
    gpu = which("nvidia-smi")
    yield Check(
        "builder tensorrt-llm, smoke of GPU profiles",
        "NVIDIA driver",
        gpu is not None,
        gpu or "not found",
        "apt-get install nvidia-driver; then FORGE_RUNNER_LABELS=gpu-sm120 forge run … there",
    )
    board = Path("/etc/nv_tegra_release").is_file()
    needed = "engines of edge-llm, with engine.build_on: runner"
    yield Check(needed, "Jetson", board, "found" if board else "not found", elsewhere)


def _keys(environment: Mapping[str, str], root: Path) -> Iterator[Check]:
    keys = Path(environment.get("FORGE_KEYS") or root / ".forge" / "keys")
    there = (keys / "keys.json").is_file()
    found = "found" if there else "not found"
    yield Check("publish, promote", "signing keys", there, found, f"forge keys init --keys {keys}")
    known = "FORGE_PASSPHRASE" in environment or "FORGE_PASSPHRASE_FILE" in environment
    yield Check(
        "publish, promote",
        "passphrase of the signing keys",
        known,
        "set" if known else "not set; a terminal is asked",
        "export FORGE_PASSPHRASE_FILE=FILE  # that only you can read",
    )


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Check("everything", "Python 3.11 or newer", ok, version, "apt-get install python3.11")


def _program(which: Callable[[str], str | None], needed_by: str, name: str, fix: str) -> Check:
    path = which(name)
    return Check(needed_by, name, path is not None, path or "not found", fix)


def _uv() -> Check:
    try:
        from uv import find_uv_bin

        found = str(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        return Check("local runner", "uv", ok=False, found=str(error), fix="pip install uv")
    return Check("local runner", "uv", ok=True, found=found)


def _libpython() -> Check:
    """Triton's Python backend loads libpython of the interpreter its environment is made from."""
    from forge.environments import libpython_folder

    try:
        found = str(libpython_folder(Path(sys.executable)))
    except ConfigurationError as error:
        fix = error.hint or "apt-get install libpython3.11"
        return Check("builder openvino, device", "libpython", ok=False, found=error.what, fix=fix)
    return Check("builder openvino, device", "libpython", ok=True, found=found)


def _dagger(environment: Mapping[str, str], root: Path) -> Check:
    """Asks each named engine for its version; Dagger's own default is not started for that."""
    import asyncio

    from forge.runners.dagger_session import VERSION, engine_version, find_cli
    from forge.runners.dagger_settings import load
    from forge.runners.local import host_platform

    what = f"Dagger v{VERSION}"
    try:
        engines = load(root, environment, host=host_platform()).engines
        cli = find_cli(environment)
        found = [
            f"{platform} {asyncio.run(engine_version(cli, address, environment))}"
            for platform, address in engines.items()
            if address is not None
        ]
    except (NoRunnerError, ConfigurationError) as error:
        return Check("dagger runner", what, ok=False, found=f"{error.what}: {error.why}",
                     fix=error.hint)  # fmt: skip
    return Check(
        "dagger runner", what, ok=True, found=", ".join(found) or f"{cli}, no engine named"
    )


def _space(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    return Check(
        "tool environments, store",
        "5 GB free disk; 12 GB for builders tensorrt-rtx and edge-llm",
        free > 5_000_000_000,  # noqa: PLR2004  two environments (1.2 GB), model, engine, slots
        f"{free / 1e9:.0f} GB",
        "forge store gc; export FORGE_CACHE=FOLDER  # on a larger disk",
    )


@click.command()
@project_option
@json_option
def doctor(project_dir: Path | None, *, as_json: bool) -> None:
    """Say what this machine lacks for which builder and runner, with the command that fixes it.

    \b
    forge doctor
    forge doctor --json
    """  # noqa: D301
    try:
        root = open_project(project_dir).root
    except ConfigurationError:  # a device has no project, and lacks things all the same
        root = Path.cwd()
    found = list(checks(shutil.which, os.environ, root))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows = [
        ("ok" if one.ok else "missing", one.what, one.found, one.needed_by,
         "" if one.ok else one.fix)
        for one in found
    ]  # fmt: skip
    print_table(("", "what", "found", "needed by", "fix"), rows)
