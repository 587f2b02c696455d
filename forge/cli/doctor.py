"""`forge doctor`: which tools this machine lacks, what needs them, and how to install them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from forge.cli.common import json_option, open_project, print_json, project_option
from forge.cli.terminal import print_table, print_title, tinted
from forge.errors import ConfigurationError, NoRunnerError
from forge.extras import Extra, versions
from forge.nvidia_smi import FOLDERS, NAME

__all__ = ["doctor"]

# Where engines keep their cache: one of the machine, one in docker, one in podman.
_ENGINE_PLACES: Final = tuple(
    map(Path, ("/var/lib/dagger", "/var/lib/docker", "/var/lib/containers"))
)
# Dagger's garbage collection keeps at least this part of the disk free by deleting what it has
# cached (https://docs.dagger.io/configuration/cache, 2026-11-30).
_ENGINE_FREE: Final = 0.20


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """One check: what needs the tool, whether it was found, and the command that installs it."""

    needed_by: str
    what: str
    ok: bool
    found: str
    fix: str = ""


def checks(
    which: Callable[[str], str | None], environment: Mapping[str, str], root: Path
) -> Iterator[DoctorCheck]:
    """Check this machine for everything that Forge can use.

    Args:
        which: returns the path of a program, or None.
        environment: the process environment.
        root: folder of the project.
    """
    yield _python()
    yield _program(which, "everything", "git", "apt-get install git")
    yield _uv()
    yield _extra("publish: SBOM, signatures", "build", "model-signing")
    yield _extra("stores in a bucket, keys in AWS KMS", "s3", "boto3")
    yield _libpython()
    yield _space(Path.cwd())
    yield from _builders(which)
    yield _program(which, "images", "buildah", "apt-get install buildah")
    yield _program(which, "images --push, images update", "skopeo", "apt-get install skopeo")
    yield _dagger(environment, root)
    yield from _engine_disk(environment, root)
    yield from _keys(environment, root)


def _builders(which: Callable[[str], str | None]) -> Iterator[DoctorCheck]:
    machine = platform.machine()
    elsewhere = "run forge run release --only 'GLOB' on such a machine with this --store"
    for builder in ("tensorrt-rtx", "onnx-runtime", "edge-llm (quantise, export)"):
        needed = f"builder {builder}"
        yield DoctorCheck(needed, "amd64 machine", machine == "x86_64", machine, elsewhere)
    places = (NAME, *(f"{folder}/{NAME}" for folder in FOLDERS))
    gpu = next((found for place in places if (found := which(place))), None)
    yield DoctorCheck(
        "builder tensorrt-llm, smoke of GPU profiles",
        "NVIDIA driver",
        gpu is not None,
        gpu or "not found",
        "apt-get install nvidia-driver; then FORGE_RUNNER_LABELS=gpu-sm120 forge run … there",
    )
    board = Path("/etc/nv_tegra_release").is_file()
    needed = "engines of edge-llm, with engine.build_on: runner"
    yield DoctorCheck(needed, "Jetson", board, "found" if board else "not found", elsewhere)


def _keys(environment: Mapping[str, str], root: Path) -> Iterator[DoctorCheck]:
    from forge.release.keys.places import find_folder

    named = environment.get("FORGE_KEYS")
    keys = Path(named) if named else find_folder(root, environment).folder
    exists = (keys / "keys.json").is_file()
    found = "found" if exists else "not found"
    yield DoctorCheck(
        "publish, promote", "signing keys", exists, found, f"forge keys init --keys {keys}"
    )
    known = "FORGE_PASSPHRASE" in environment or "FORGE_PASSPHRASE_FILE" in environment
    yield DoctorCheck(
        "publish, promote",
        "passphrase of the signing keys",
        known,
        "set" if known else "not set; a terminal is prompted",
        "export FORGE_PASSPHRASE_FILE=FILE  # readable by you only",
    )


def _python() -> DoctorCheck:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return DoctorCheck(
        "everything", "Python 3.11 or newer", ok, version, "apt-get install python3.11"
    )


def _program(
    which: Callable[[str], str | None], needed_by: str, name: str, fix: str
) -> DoctorCheck:
    path = which(name)
    return DoctorCheck(needed_by, name, path is not None, path or "not found", fix)


def _uv() -> DoctorCheck:
    try:
        from uv import find_uv_bin

        found = str(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        return DoctorCheck("local runner", "uv", ok=False, found=str(error), fix="pip install uv")
    return DoctorCheck("local runner", "uv", ok=True, found=found)


def _extra(needed_by: str, extra: Extra, package: str) -> DoctorCheck:
    what = f"forge-release[{extra}]"
    try:
        found = versions(extra, package)[package]
    except ConfigurationError as error:
        return DoctorCheck(needed_by, what, ok=False, found=error.why, fix=error.hint)
    return DoctorCheck(needed_by, what, ok=True, found=f"{package} {found}")


def _libpython() -> DoctorCheck:
    """Check for libpython, which Triton's Python backend loads from the base interpreter."""
    from forge.interpreter import libpython_folder

    try:
        found = str(libpython_folder(Path(sys.executable)))
    except ConfigurationError as error:
        fix = error.hint or "apt-get install libpython3.11"
        return DoctorCheck(
            "builder openvino, device", "libpython", ok=False, found=error.what, fix=fix
        )
    return DoctorCheck("builder openvino, device", "libpython", ok=True, found=found)


def _dagger(environment: Mapping[str, str], root: Path) -> DoctorCheck:
    """Query the version of each configured engine; Dagger's default engine is not started."""
    import asyncio

    from forge.runners.dagger.session import VERSION, engine_version, find_cli
    from forge.runners.dagger.settings import load
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
        return DoctorCheck("dagger runner", what, ok=False, found=f"{error.what}: {error.why}",
                     fix=error.hint)  # fmt: skip
    return DoctorCheck(
        "dagger runner", what, ok=True, found=", ".join(found) or f"{cli}, no engine configured"
    )


def _engine_disk(
    environment: Mapping[str, str], root: Path, places: Iterable[Path] = _ENGINE_PLACES
) -> Iterator[DoctorCheck]:
    """Check the disk of an engine of this machine; that of another machine cannot be seen."""
    from forge.runners.dagger.session import find_cli
    from forge.runners.dagger.settings import load
    from forge.runners.local import host_platform

    try:
        find_cli(environment)
        engines = load(root, environment, host=host_platform()).engines.values()
    except (NoRunnerError, ConfigurationError):  # the check before this one says why
        return
    place = next((path for path in places if path.is_dir()), None)
    if place is None or not any(one is None or one.startswith("unix:") for one in engines):
        return
    disk = shutil.disk_usage(place)
    yield DoctorCheck(
        "dagger runner",
        f"{100 * _ENGINE_FREE:.0f} % free disk for the engine",
        disk.free >= _ENGINE_FREE * disk.total,
        f"{100 * disk.free / disk.total:.0f} % of {disk.total / 1e9:.0f} GB at {place};"
        " with less, an engine deletes environments between steps",
        "dagger core engine local-cache prune",
    )


def _space(folder: Path) -> DoctorCheck:
    free = shutil.disk_usage(folder).free
    return DoctorCheck(
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
    """Show which builders and runners this machine lacks tools for, with commands to fix it.

    \b
    forge doctor
    forge doctor --json
    """  # noqa: D301
    try:
        root = open_project(project_dir).root
    except ConfigurationError:  # a device has no project
        root = Path.cwd()
    found = list(checks(shutil.which, os.environ, root))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows = [
        (tinted("ok" if one.ok else "missing"), one.what, one.found, one.needed_by) for one in found
    ]
    print_table(("state", "what", "found", "needed by"), rows, optional=("found",))
    missing = [one for one in found if not one.ok]
    if missing:
        print_title("\nTo add what is missing")
        print_table(("", ""), [(one.what, one.fix) for one in missing])
