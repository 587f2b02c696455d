"""A real registry, a real base image for both platforms, containers started in a chroot.

What is missing on the machine is said by `missing`: the tests are skipped with that reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from forge.container import TRITON
from forge.environments import Installed
from forge.images.platforms import BINFMT, PLATFORMS, Platform, is_native
from tests.support.seaweed import free_ports

PROGRAMS = ("buildah", "skopeo", "docker-registry", "mmdebstrap", "unshare")
QEMU_RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
# Enough for the shipped Dockerfiles: a shell, Python with pip and libpython.
PACKAGES = (
    "base-files,base-passwd,dash,coreutils,ca-certificates,python3-pip,python3-venv,libpython3.11,"
    "bash,libstdc++6"  # of the real Triton, which one test adds
)
LONG_S = 1200  # arm64 under qemu on a busy machine

_CONFIGURATION = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: "{folder}"}}}}
http: {{addr: "127.0.0.1:{port}", secret: tests}}
log: {{level: warn, accesslog: {{disabled: true}}}}
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{root}"
runroot = "{run}"
"""
_LOOPBACK_UP = """\
import fcntl, os, socket, struct, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
os.execvp(sys.argv[1], sys.argv[1:])
"""


def missing() -> str:
    """Why images cannot be built and started for both platforms here; empty if they can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not on this machine: {', '.join(absent)} (scripts/system-packages test)"
    if os.geteuid() != 0:
        return "needs root: a base image is made with its files' real owners"
    emulator = BINFMT / "qemu-aarch64"
    if not is_native("linux/arm64") and not emulator.exists():
        _register_qemu()
        if not emulator.exists():
            return "arm64 cannot be emulated: qemu-user-static, or binfmt_misc, is missing"
    return ""


def _register_qemu() -> None:
    """What binfmt-support or systemd does at boot, where neither runs."""
    if not QEMU_RULE.is_file():
        return
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        if not (BINFMT / "register").exists():
            run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
        (BINFMT / "register").write_text(QEMU_RULE.read_text().strip())


def run(*argv: str, timeout: float = 300) -> str:
    """Run a program that must succeed; returns what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Registry:
    """A docker-registry in plain HTTP on 127.0.0.1."""

    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def manifest(self, name: str, reference: str) -> httpx.Response:
        """Its manifest or index as the registry has it; the digest is in Docker-Content-Digest."""
        kinds = ["index.v1", "manifest.v1"]
        accept = ", ".join(f"application/vnd.oci.image.{kind}+json" for kind in kinds)
        url = f"http://{self.host}/v2/{name}/manifests/{reference}"
        return httpx.get(url, headers={"Accept": accept}, timeout=30)


@contextlib.contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Images and containers of the tests' own, so that the machine's are left alone."""
    file = folder / "storage.conf"
    file.write_text(_STORAGE.format(root=folder / "storage", run=folder / "run"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONTAINERS_STORAGE_CONF", str(file))
            yield
    finally:
        # buildah leaves it mounted on itself, and a mounted folder cannot be removed.
        overlay = folder / "storage" / "overlay"
        if os.path.ismount(overlay):
            run("umount", "--lazy", str(overlay))


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Start one, wait until it answers, kill it afterwards."""
    (port,) = free_ports(1)
    file = folder / "registry.yml"
    file.write_text(_CONFIGURATION.format(folder=folder / "registry", port=port))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(("docker-registry", "serve", file), stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/v2/", process)
        yield Registry(port)
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        assert process.poll() is None, "docker-registry ended"
        assert time.monotonic() < deadline, "docker-registry does not answer"
        time.sleep(0.1)


def push_base(
    server: Registry,
    folder: Path,
    name: str,
    *,
    platforms: Sequence[Platform] = PLATFORMS,
    triton: Installed | None = None,
) -> str:
    """Make a small Debian with Python for each platform and push one index; returns its name.

    With `triton` it holds that environment's Triton too, where NVIDIA's images have theirs.

    Packages are unpacked and not configured (`--variant=extract`), so that arm64 needs no qemu
    here; what the shipped bases get from configuring is added by hand.
    """
    reference = f"{server.host}/{name}:1"
    manifest = run("buildah", "manifest", "create", "localhost/forge-test-base").strip()
    for platform in platforms:
        archive = folder / f"base-{platform.partition('/')[2]}.tar"
        _bootstrap(platform, archive)
        run("buildah", "manifest", "add", manifest, _commit(platform, archive, triton))
        archive.unlink()
    push = ("buildah", "manifest", "push", "--all", "--tls-verify=false", manifest)
    run(*push, f"docker://{reference}")
    return reference


def _bootstrap(platform: Platform, archive: Path) -> None:
    excluded = ("doc", "man", "locale", "info")
    master = '"$1"/usr/share/base-passwd/passwd.master "$1"/etc/passwd'
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=extract",
        f"--architectures={platform.partition('/')[2]}", f"--include={PACKAGES}",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in excluded),
        f"--extract-hook=cp {master}",
        "bookworm", str(archive), timeout=LONG_S,
    )  # fmt: skip


def _commit(platform: Platform, archive: Path, triton: Installed | None) -> str:
    architecture = platform.partition("/")[2]
    container = run("buildah", "from", "--arch", architecture, "scratch").strip()
    try:
        run("buildah", "add", "--quiet", container, str(archive), "/")
        if triton is not None:
            _add_triton(container, triton)
        run("buildah", "config", "--arch", architecture, "--os", "linux", container)
        return run("buildah", "commit", "--quiet", "--format", "oci", container).strip()
    finally:
        run("buildah", "rm", container)


def _add_triton(container: str, installed: Installed) -> None:
    """The layout of NVIDIA's images: /opt/tritonserver, and numpy for the image's own Python."""
    packages = installed.site_packages
    triton = packages / "pytriton" / "tritonserver"
    stub = triton / "python_backend_stubs" / installed.python / "triton_python_backend_stub"
    modules = f"/usr/local/lib/python{installed.python}/dist-packages"
    content = {
        triton / "bin": f"{TRITON}/bin",
        triton / "backends" / "python": f"{TRITON}/backends/python",
        stub: f"{TRITON}/backends/python/{stub.name}",
        packages / "nvidia_pytriton.libs": f"{TRITON}/lib",
        packages / "numpy": f"{modules}/numpy",
        packages / "numpy.libs": f"{modules}/numpy.libs",
    }
    for source, target in content.items():
        run("buildah", "add", "--quiet", container, str(source), target)
    run("buildah", "config", "--env", f"LD_LIBRARY_PATH={TRITON}/lib", container)


@contextlib.contextmanager
def container(reference: str, platform: Platform) -> Iterator[str]:
    """A container of one platform's image, removed afterwards."""
    architecture = platform.partition("/")[2]
    pull = ("buildah", "from", "--arch", architecture, "--tls-verify=false")
    name = run(*pull, f"docker://{reference}", timeout=LONG_S).strip().splitlines()[-1]
    try:
        yield name
    finally:
        run("buildah", "rm", name)


def start_argv(name: str, command: list[str], *, volumes: dict[Path, str]) -> list[str]:
    """What runs a command in a container, with a network of its own that has loopback only.

    `podman run` fails on machines that do not let crun raise RLIMIT_NOFILE; a chroot needs nothing.
    """
    mounts = [word for host, inside in volumes.items() for word in ("--volume", f"{host}:{inside}")]
    isolated = ["unshare", "--net", sys.executable, "-c", _LOOPBACK_UP]
    return [*isolated, "buildah", "run", "--isolation", "chroot", *mounts, name, "--", *command]


def skip_without_programs() -> None:
    """Skip with the reason printed if the machine lacks something."""
    if reason := missing():
        pytest.skip(reason)
