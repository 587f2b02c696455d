"""A Dagger engine that somebody runs, and a Python base image for it where no registry is in reach.

    FORGE_DAGGER_ENGINES            engines by platform, as for the runner
    _EXPERIMENTAL_DAGGER_CLI_BIN    the CLI, unless `dagger` is on PATH
    FORGE_DAGGER_BASE               a base image; without it one is made by mmdebstrap and buildah

The engine is not started here: it needs root, overlayfs and a network of its own, and no package
registry carries it. Without one these tests are skipped with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from forge.errors import ForgeError
from forge.runners.dagger.runner import DaggerRunner
from forge.runners.dagger.session import find_cli, probe
from forge.runners.dagger.settings import DaggerSettings, load
from forge.runners.local import LocalRunner, host_platform

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = "unix:///run/dagger/engine.sock"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = ("python3", "python3-venv", "libpython3.11", "ca-certificates")
TOOLS = ("mmdebstrap", "buildah", "docker-registry")


@dataclass(frozen=True)
class Engine:
    """What the tests hand to a runner."""

    settings: DaggerSettings
    environment: Mapping[str, str]

    def runner(self, tmp_path: Path, **environment: str) -> DaggerRunner:
        own = dict(self.environment) | environment
        return DaggerRunner(self.settings, own, LocalRunner(tmp_path / "environments", own))


@contextmanager
def engine(work: Path) -> Iterator[Engine]:
    """An engine with a base image for every platform named for it, or a skip with the reason."""
    own = {"FORGE_DAGGER_ENGINES": json.dumps({host_platform(): DEFAULT})}
    environment = own | {name: value for name, value in os.environ.items() if value}
    try:
        found = load(work, environment, host=host_platform())
        find_cli(environment)
        for address in found.engines.values():
            probe(address)
    except ForgeError as error:
        pytest.skip(f"no Dagger engine in reach: {error.what}: {error.why}")
    if "FORGE_DAGGER_BASE" in environment:
        yield Engine(found, environment)
        return
    with _registry(work) as registry:
        base = _push(registry, sorted(found.engines), work)
        yield Engine(DaggerSettings(found.engines, base, found.labels), environment)


@contextmanager
def _registry(work: Path) -> Iterator[str]:
    """A registry on 127.0.0.1, which the engine must share with the tests; its address."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no base image: {', '.join(missing)} missing and FORGE_DAGGER_BASE not set")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage = {"filesystem": {"rootdirectory": str(work / "registry")}}
    config = {"version": 0.1, "storage": storage, "http": {"addr": address}}
    (work / "registry.yml").write_text(json.dumps(config))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(work / "registry.yml")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(100):
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the registry did not answer at {address}")


def _push(registry: str, platforms: list[str], work: Path) -> str:
    """Push one index with a Debian + Python image for each platform; its reference."""
    name = f"{registry}/python:3.11"
    _buildah(work, "manifest", "create", name)
    for platform in platforms:
        arch = platform.partition("/")[2]
        container = _buildah(work, "from", "--arch", arch, "scratch")
        _buildah(work, "add", "--quiet", container, str(_debian(arch)), "/")
        # The bundle of this machine: whoever its package index is trusted by, the image trusts.
        _buildah(work, "copy", "--quiet", container, str(BUNDLE), str(BUNDLE))
        path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = (path, f"SSL_CERT_FILE={BUNDLE}", f"PIP_CERT={BUNDLE}")
        flags = [word for variable in variables for word in ("--env", variable)]
        _buildah(work, "config", "--arch", arch, *flags, container)
        _buildah(work, "commit", "--quiet", "--rm", "--manifest", name, container)
    _buildah(work, "manifest", "push", "--all", "--tls-verify=false", name, f"docker://{name}")
    return name


def _debian(arch: str) -> Path:
    """A small Debian with Python, made once and kept in .forge of this checkout."""
    kept = ROOT / ".forge" / "test-bases" / f"bookworm-python3.11-{arch}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(".half.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--architectures={arch}",
             f"--include={','.join(PACKAGES)}", "bookworm", str(half)],
            check=True, timeout=900,
        )  # fmt: skip
        half.rename(kept)
    return kept


def _buildah(work: Path, *arguments: str) -> str:
    storage = ["--root", str(work / "buildah"), "--runroot", str(work / "run"),
               "--storage-driver", "vfs"]  # fmt: skip
    done = subprocess.run(
        ["buildah", *storage, *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"buildah {arguments}: {done.stderr}"
    return done.stdout.strip()
