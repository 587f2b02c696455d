"""Collect raw facts about a machine, without interpreting them.

Every source may be missing, unreadable or hang: that is recorded in `Facts.problems`, never fatal.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Answer", "Facts", "Run", "collect", "run_command"]

_MAX_FILE_BYTES: Final = 256 * 1024
_MAX_OUTPUT_BYTES: Final = 256 * 1024
_REAP_S: Final = 1.0

# The header for the CUDA version; the query for the rest. Old drivers do not know `compute_cap`.
_SMI: Final = ("nvidia-smi",)
_QUERY: Final = "--query-gpu=name,memory.total,driver_version,compute_cap"
_OLD_QUERY: Final = "--query-gpu=name,memory.total,driver_version"
_FORMAT: Final = "--format=csv,noheader,nounits"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, or why it failed (`problem` is empty if it did not)."""

    output: str = ""
    problem: str = ""


Run = Callable[[Sequence[str], float], Answer]


@dataclass(frozen=True, slots=True)
class Facts:
    """Raw texts from the machine; None where a source does not exist.

    Attributes:
        machine: `uname -m`.
        kernel: `uname -r`.
        smi_header: plain `nvidia-smi`.
        smi_gpus: CSV of name, memory.total (MiB), driver_version and, if known, compute_cap.
        device_tree_model: /proc/device-tree/model, NUL-terminated.
        device_tree_compatible: /proc/device-tree/compatible, NUL-separated.
        tegra_release: /etc/nv_tegra_release.
        boot_control: /etc/nv_boot_control.conf.
        nvpmodel: /etc/nvpmodel.conf.
        meminfo: /proc/meminfo.
        os_release: /etc/os-release.
        tensorrt_libraries: file names `libnvinfer.so.*` of the system's library folders.
        problems: one sentence for each source that exists and could not be read.
    """

    machine: str
    kernel: str
    smi_header: str | None = None
    smi_gpus: str | None = None
    device_tree_model: str | None = None
    device_tree_compatible: str | None = None
    tegra_release: str | None = None
    boot_control: str | None = None
    nvpmodel: str | None = None
    meminfo: str | None = None
    os_release: str | None = None
    tensorrt_libraries: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())


def collect(root: Path = Path("/"), run: Run | None = None, timeout_s: float = 10.0) -> Facts:
    """Collect the facts of this machine. Never raises for a source that cannot be read.

    Args:
        root: where /proc and /etc are (another folder in tests and in containers).
        run: runs a command with a timeout; default: as a child process.
        timeout_s: for each command: nvidia-smi can hang without end with a failing driver.
    """
    run = run or run_command
    problems: list[str] = []

    def read(path: str) -> str | None:
        return _read(root / path, problems)

    kernel = run(("uname", "-r"), timeout_s)
    machine = run(("uname", "-m"), timeout_s)
    header, gpus = _nvidia_smi(run, timeout_s, problems)
    problems += [f"uname: {answer.problem}" for answer in (kernel, machine) if answer.problem]
    return Facts(
        machine=machine.output.strip(),
        kernel=kernel.output.strip(),
        smi_header=header,
        smi_gpus=gpus,
        device_tree_model=read("proc/device-tree/model"),
        device_tree_compatible=read("proc/device-tree/compatible"),
        tegra_release=read("etc/nv_tegra_release"),
        boot_control=read("etc/nv_boot_control.conf"),
        nvpmodel=read("etc/nvpmodel.conf"),
        meminfo=read("proc/meminfo"),
        os_release=read("etc/os-release"),
        tensorrt_libraries=_tensorrt(root),
        problems=tuple(problems),
    )


def run_command(argv: Sequence[str], timeout_s: float) -> Answer:
    """Run a command; one that is missing, fails or hangs is reported as a `problem`."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        return Answer(problem="not installed")
    except OSError as error:
        # A folder of PATH that this user may not enter hides that the program is in none of them.
        if "/" not in argv[0] and shutil.which(argv[0]) is None:
            return Answer(problem="not installed")
        return Answer(problem=str(error))
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return Answer(problem=f"no answer within {timeout_s:g} s")
    text = output[:_MAX_OUTPUT_BYTES].decode(errors="replace")
    if process.returncode:
        last = text.strip().splitlines()[-1:] or ["no output"]
        return Answer(text, problem=f"exit code {process.returncode}: {last[0]}")
    return Answer(text)


def _give_up(process: subprocess.Popen[bytes]) -> None:
    # SIGKILL does not end a process that is blocked in the driver (state D): stop waiting for it.
    process.kill()
    if process.stdout:
        process.stdout.close()
    try:
        process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        process.returncode = -9  # otherwise the destructor warns about it


def _nvidia_smi(run: Run, timeout_s: float, problems: list[str]) -> tuple[str | None, str | None]:
    gpus = run((*_SMI, _QUERY, _FORMAT), timeout_s)
    if "not a valid field" in gpus.output:
        gpus = run((*_SMI, _OLD_QUERY, _FORMAT), timeout_s)
    if gpus.problem:
        if gpus.problem != "not installed":
            problems.append(f"nvidia-smi: {gpus.problem}")
        return None, None
    header = run(_SMI, timeout_s)
    if header.problem:
        problems.append(f"nvidia-smi: {header.problem}")
    return (None if header.problem else header.output), gpus.output


def _read(path: Path, problems: list[str]) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return None


def _tensorrt(root: Path) -> tuple[str, ...]:
    folders = ("usr/lib/aarch64-linux-gnu", "usr/lib/x86_64-linux-gnu")
    found = {path.name for folder in folders for path in (root / folder).glob("libnvinfer.so.*")}
    return tuple(sorted(found))
