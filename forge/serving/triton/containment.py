"""What contains a program of a bundle on this machine, and the command that puts it on.

A bundle is code. sandbox.py takes away what its program does not need; what this machine's kernel,
or the container around the agent, does not allow is named here, and the program runs without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.environments import Installed
from forge.errors import ContainmentUnknownError
from forge.serving.triton.sandbox import FAILED, NOT_PUT_ON, SandboxOptions

__all__ = [
    "FAILED",
    "MECHANISMS",
    "NOT_PUT_ON",
    "OFF",
    "WRITE",
    "Containment",
    "Needs",
    "available",
    "contained",
    "environment_inside",
    "forget",
    "hidden_from",
    "hide_from_others",
    "judge",
    "readable",
]

DATA_FILES: Final = ("sandbox.py",)  # part of a step's key
OFF: Final = "FORGE_CONTAINMENT_OFF"
WRITE: Final = "FORGE_CONTAINMENT_WRITE"
MECHANISMS: Final = ("privileges", "files", "signals", "network", "processes")
_SIGNALS_ABI: Final = 6  # Linux 6.12
_TRUNCATE_ABI: Final = 3  # Linux 6.2
_PROBE_S: Final = 30.0
_PR_SET_DUMPABLE: Final = 4
# What programs and their libraries read of the system. Not /etc, /var, /run or /home as a whole:
# keys, credentials and other programs' data are there.
_SYSTEM: Final = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/sys", "/proc"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf"),
    *("/etc/host.conf", "/etc/gai.conf", "/etc/localtime", "/etc/timezone", "/etc/os-release"),
    *("/etc/nv_tegra_release", "/etc/nvidia", "/etc/OpenCL", "/etc/vulkan", "/etc/glvnd"),
    *("/etc/nvpmodel.conf", "/etc/magic", "/etc/mime.types", "/etc/inputrc", "/etc/locale.alias"),
    *("/run/nvidia-persistenced", "/var/run/nvidia-persistenced", "/run/nvidia-topologyd"),
)
# Device files by pattern: those of a GPU of a board have many names.
_DEVICES: Final = (
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"),
    *("/dev/nvidia*", "/dev/nvhost*", "/dev/nvmap", "/dev/nvgpu*", "/dev/nvsci*", "/dev/tegra*"),
    *("/dev/dri", "/dev/host1x*", "/dev/dma_heap", "/dev/v4l2-nv*"),
)
# Empty for the program where it can have a view of its own: sockets of other programs are there,
# which Landlock does not cover, and other users' data.
_PRIVATE: Final = ("/tmp", "/run", "/var", "/home", "/root", "/srv", "/mnt", "/media")  # noqa: S108


class Containment(BaseModel):
    """Which mechanisms are in force, and why others are not.

    Attributes:
        in_force: of MECHANISMS. `privileges`: no new ones, no core files; `files`: it opens only
            what it needs, and traces no process outside; `signals`: it sends none to the outside;
            `network`: it has none, and its ports exist for the agent only; `processes`: it has a
            /proc, a /dev/shm and process numbers of its own.
        missing: the reason by mechanism; `truncate`: `files` is in force, and does not stop that.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    in_force: tuple[str, ...] = ()
    missing: Mapping[str, str] = {}

    def has(self, mechanism: str) -> bool:
        """Return whether a mechanism is in force."""
        return mechanism in self.in_force

    def with_all_of(self, other: Containment) -> Containment:
        """Return what is in force in either of the two."""
        kept = tuple(one for one in MECHANISMS if self.has(one) or other.has(one))
        missing = {one: why for one, why in self.missing.items() if one not in kept}
        return Containment(in_force=kept, missing=missing)

    def without(self, *mechanisms: str, reason: str) -> Containment:
        """Return the rest of it."""
        kept = tuple(one for one in self.in_force if one not in mechanisms)
        missing = {one: reason for one in mechanisms if one not in self.missing}
        return Containment(in_force=kept, missing={**self.missing, **missing})


@dataclass(frozen=True, slots=True)
class Needs:
    """What a program needs.

    Attributes:
        read: files and folders that it reads or executes, beyond the system's.
        write: folders for it alone.
        listen: Unix socket on which the sandbox hands out connections to `ports`; empty: its
            network stays this machine's.
        ports: TCP ports on which the program listens.
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    listen: str = ""
    ports: tuple[int, ...] = ()


def available(environment: Mapping[str, str] = os.environ) -> Containment:
    """Return what this machine allows, asked once, without what FORGE_CONTAINMENT_OFF names.

    Raises:
        ContainmentUnknownError: the machine could not be asked; the next call asks again.
    """
    given = environment.get(OFF, "")
    named = {one.strip() for one in given.split(",")}
    if "network" in named:  # the others need its user namespace
        named.add("processes")
    off = [one for one in MECHANISMS if one in named or "all" in named]
    if "all" in named:
        return Containment().without(*off, reason=f"{OFF}={given}")
    return _probed().without(*off, reason=f"{OFF}={given}") if off else _probed()


def forget() -> None:
    """Let the next call of `available` ask again, because a sandbox could not be put on.

    A program can claim that by its exit code, so what was found in force stays: the next answer may
    only add to it.
    """
    _memory.stale = True


@dataclass(slots=True)
class _Memory:
    """What this machine allows, as far as it was found out in this process."""

    found: Containment | None = None
    stale: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


_memory = _Memory()


def _probed() -> Containment:
    with _memory.lock:
        if _memory.found is None:
            _memory.found = _probe()
        elif _memory.stale:
            with contextlib.suppress(ContainmentUnknownError):
                _memory.found = _memory.found.with_all_of(_probe())
        _memory.stale = False
        return _memory.found


def _probe() -> Containment:
    """Ask this machine. Raises ContainmentUnknownError."""
    try:
        done = subprocess.run(
            [*_sandbox(), "--probe"],
            capture_output=True,
            check=False,
            timeout=_PROBE_S,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise _unknown(lines[-1] if lines else f"the probe ended with {done.returncode}")
        found = json.loads(done.stdout)
        return judge(int(found["landlock"]), str(found["network"]), str(found["processes"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise _unknown(str(error)) from None


def _unknown(why: str) -> ContainmentUnknownError:
    message = "Cannot determine what can contain a bundle's program on this machine"
    hint = f"the machine may lack processes or memory: try again; or name it in {OFF}"
    return ContainmentUnknownError(message, why=why, hint=hint)


def judge(landlock: int, network: str, processes: str) -> Containment:
    """Return which mechanisms a machine allows.

    Args:
        landlock: version of its Landlock; 0: none.
        network: why there is no user and network namespace; empty if there is.
        processes: the same of a PID namespace with its own /proc.
    """
    signals = ""
    if landlock < _SIGNALS_ABI and processes:
        signals = f"Landlock {_SIGNALS_ABI} is needed, this kernel has {landlock or 'none'}"
    reasons = {
        "privileges": "",
        "files": "" if landlock > 0 else "this kernel has no Landlock, or it is not enabled",
        "signals": signals,
        "network": network,
        "processes": processes,
    }
    if 0 < landlock < _TRUNCATE_ABI:
        reasons["truncate"] = (
            f"it can empty its user's files that it cannot open: Landlock {_TRUNCATE_ABI} is needed"
            f" (Linux 6.2), this kernel has {landlock}"
        )
    return Containment(
        in_force=tuple(one for one in MECHANISMS if not reasons[one]),
        missing={one: why for one, why in reasons.items() if why},
    )


def contained(
    argv: Iterable[str],
    needs: Needs,
    containment: Containment,
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """Return the command that runs a program with all of this containment.

    It may also write to the folders that FORGE_CONTAINMENT_WRITE names, as PATH names them.
    """
    if not containment.in_force:
        return [*argv]
    added = [one for one in environment.get(WRITE, "").split(os.pathsep) if one.startswith("/")]
    own = bool(needs.listen) and containment.has("processes")  # a /tmp of its own
    options = SandboxOptions(
        files=containment.has("files"),
        read=[*_SYSTEM, *map(str, needs.read)],
        write=["/dev/shm", *map(str, needs.write), *added],  # noqa: S108
        scratch=["/tmp"],  # noqa: S108 - Triton makes a folder there
        private=list(_PRIVATE),
        devices=[path for pattern in _DEVICES for path in sorted(glob.glob(pattern))],  # noqa: PTH207
        network=bool(needs.listen),
        processes=own,
        listen=needs.listen,
        ports=list(needs.ports),
    )
    return _sandboxed(options, argv)


def hidden_from(
    argv: Iterable[str], hidden: Collection[Path], containment: Containment
) -> list[str]:
    """Return the command that runs a program which can open all but some files and folders.

    It cannot trace or read the processes outside of it either. Without Landlock it runs as it is.
    """
    if not containment.has("files"):
        return [*argv]
    paths = sorted({str(one.resolve()) for one in hidden} | {str(one.absolute()) for one in hidden})
    options = SandboxOptions(
        files=True,
        capabilities=True,
        hidden=paths,
        scratch=["/tmp"] if paths else [],  # noqa: S108 - as above; a hidden path may be below
        write=[] if paths else ["/"],
    )
    return _sandboxed(options, argv)


def environment_inside(home: Path, temporary: Path) -> dict[str, str]:
    """Return the variables by which a contained program finds folders that it may write."""
    caches = {"XDG_CACHE_HOME": str(home / ".cache"), "CUDA_CACHE_PATH": str(home / ".nv")}
    return {"HOME": str(home), "TMPDIR": str(temporary), **caches}


def readable(installed: Installed, libraries: str) -> tuple[Path, ...]:
    """Return the folders of an environment: its packages, its Python and their libraries.

    Args:
        installed: the environment.
        libraries: LD_LIBRARY_PATH of its programs.
    """
    python = (installed.root / "bin" / "python3").resolve()
    found = [installed.root, python.parent.parent, installed.library_folder]
    found += [installed.triton] if installed.triton else []
    found += [Path(one) for one in libraries.split(os.pathsep) if one.startswith("/")]
    return tuple(found)


def hide_from_others() -> None:
    """Let no program of this user read the variables or the memory of this process.

    /proc/PID/environ and the memory of a process that is not "dumpable" are for root only. Landlock
    keeps a contained program from them too; this holds also where it is missing, and for programs
    that nothing contains.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _sandboxed(options: SandboxOptions, argv: Iterable[str]) -> list[str]:
    return [*_sandbox(), json.dumps(asdict(options), separators=(",", ":")), "--", *argv]


def _sandbox() -> list[str]:
    return [sys.executable, "-I", str(Path(__file__).with_name("sandbox.py"))]
