"""Collect raw facts about a machine, without interpreting them.

Every source may be missing, unreadable or hang: that is recorded in `Facts.problems`, never fatal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from forge import nvidia_smi
from forge.system_files import RootFiles, SystemFiles

__all__ = [
    "OLD_GPU_QUERY",
    "PCI_DEVICES",
    "Answer",
    "Facts",
    "Run",
    "SmiState",
    "ask_smi",
    "collect",
    "is_nvidia_gpu",
    "run_command",
]

_MAX_OUTPUT_BYTES: Final = 256 * 1024
_REAP_S: Final = 1.0

# The header for the CUDA version; the query for the rest. Old drivers know neither `compute_cap`
# nor `mig.mode.current`. The list names the slices of a GPU in MIG mode.
_SMI: Final = (nvidia_smi.NAME,)
_QUERY: Final = "--query-gpu=name,memory.total,driver_version,compute_cap,uuid,mig.mode.current"
_OLD_QUERY: Final = "--query-gpu=name,memory.total,driver_version,uuid"
_FORMAT: Final = "--format=csv,noheader,nounits"
OLD_GPU_QUERY: Final = (*_SMI, _OLD_QUERY, _FORMAT)
"""The command that every driver knows: name, memory.total, driver_version, uuid."""
_NO_DEVICES: Final = "No devices were found"
_LOST_CODES: Final = (15, 255)
_LOST: Final = re.compile(r"GPU is lost|Unable to determine the device handle")
_NVIDIA: Final = "0x10de"  # PCI vendor
_DISPLAY: Final = re.compile(r"0x03[0-9a-f]{4}")  # PCI class of GPUs
# The second is where deploy/ mounts it: a container's runtime masks the folder behind the first.
_DEVICE_TREES: Final = ("proc/device-tree", "run/forge/device-tree")
PCI_DEVICES: Final = "sys/bus/pci/devices"
_DEVICE_FILE: Final = re.compile(r"nvidia([0-9]{1,3}|ctl)")

SmiState: TypeAlias = Literal["answered", "no-devices", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, or why it failed.

    Attributes:
        output: standard output.
        problem: why it failed, with the exit code; empty if it did not.
        errors: standard error.
        code: exit code; 0 also if there is none, because it hangs or is missing.
    """

    output: str = ""
    problem: str = ""
    errors: str = ""
    code: int = 0

    @property
    def text(self) -> str:
        """Everything it printed."""
        return self.output + self.errors


Run = Callable[[Sequence[str], float], Answer]


@dataclass(frozen=True, slots=True)
class Facts:
    """Raw texts from the machine; None where a source does not exist.

    Attributes:
        machine: `uname -m`.
        kernel: `uname -r`.
        smi_header: plain `nvidia-smi`.
        smi_gpus: CSV of name, memory.total (MiB), driver_version and, if known, compute_cap, uuid
            and mig.mode.current.
        smi_list: `nvidia-smi -L`, asked for only where a GPU is in MIG mode.
        smi_state: how nvidia-smi answered; `failed`: a driver is here and does not answer.
        smi_complete: False: nvidia-smi says that a GPU is lost.
        nvidia_signs: paths that exist only with an NVIDIA GPU.
        device_tree_model: /proc/device-tree/model, NUL-terminated; where a container masks that, of
            /run/forge/device-tree.
        device_tree_compatible: compatible of the same folder, NUL-separated.
        soc: family and soc_id of /sys/devices/soc0, which no container runtime masks.
        devfreq: names in /sys/class/devfreq.
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
    smi_list: str | None = None
    smi_state: SmiState = "missing"
    smi_complete: bool = True
    nvidia_signs: tuple[str, ...] = ()
    device_tree_model: str | None = None
    device_tree_compatible: str | None = None
    soc: tuple[str | None, str | None] = (None, None)
    devfreq: tuple[str, ...] = ()
    tegra_release: str | None = None
    boot_control: str | None = None
    nvpmodel: str | None = None
    meminfo: str | None = None
    os_release: str | None = None
    tensorrt_libraries: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())


def collect(
    root: Path | SystemFiles = Path("/"), run: Run | None = None, timeout_s: float = 10.0
) -> Facts:
    """Collect the facts of a machine. Never raises for a source that cannot be read.

    Args:
        root: where /proc and /etc are (another folder in tests and in containers), or the files of
            a capture.
        run: runs a command with a timeout; default: as a child process.
        timeout_s: for each command: nvidia-smi can hang without end with a failing driver.
    """
    run = run or run_command
    files = RootFiles(root) if isinstance(root, Path) else root
    problems: list[str] = []

    def read(path: str) -> str | None:
        return _read(files, path, problems)

    def first(name: str) -> str | None:
        found = (read(f"{folder}/{name}") for folder in _DEVICE_TREES)
        return next(filter(None, found), None)

    kernel = run(("uname", "-r"), timeout_s)
    machine = run(("uname", "-m"), timeout_s)
    smi = _nvidia_smi(run, timeout_s, problems)
    signs = tuple(_signs(files, problems))
    compatible = first("compatible")
    if smi.state == "missing":
        problems += _missed(signs, compatible or "")
    problems += [f"uname: {answer.problem}" for answer in (kernel, machine) if answer.problem]
    return Facts(
        machine=machine.output.strip(),
        kernel=kernel.output.strip(),
        smi_header=smi.header,
        smi_gpus=smi.gpus,
        smi_list=smi.listed,
        smi_state=smi.state,
        smi_complete=smi.complete,
        nvidia_signs=signs,
        device_tree_model=first("model"),
        device_tree_compatible=compatible,
        soc=(read("sys/devices/soc0/family"), read("sys/devices/soc0/soc_id")),
        devfreq=tuple(_names(files, "sys/class/devfreq", "*", problems)),
        tegra_release=read("etc/nv_tegra_release"),
        boot_control=read("etc/nv_boot_control.conf"),
        nvpmodel=read("etc/nvpmodel.conf"),
        meminfo=read("proc/meminfo"),
        os_release=read("etc/os-release"),
        tensorrt_libraries=_tensorrt(files, problems),
        problems=tuple(problems),
    )


def run_command(argv: Sequence[str], timeout_s: float) -> Answer:
    """Run a command; one that is missing, fails or hangs is reported as a `problem`.

    nvidia-smi is also looked for where it is kept outside PATH.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    if argv[0] == nvidia_smi.NAME and (program := nvidia_smi.locate()):
        argv = (program, *argv[1:])
        if folder := nvidia_smi.libraries(program):
            known = [folder, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(known)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return Answer(problem=f"no answer within {timeout_s:g} s")
    except BaseException:  # a signal: the command must not outlive what asked for it
        _give_up(process)
        raise
    said, beside = (text[:_MAX_OUTPUT_BYTES].decode(errors="replace") for text in (output, errors))
    if process.returncode:
        last = (said + beside).strip().splitlines()[-1:] or ["no output"]
        problem = f"exit code {process.returncode}: {last[0]}"
        return Answer(said, problem, beside, process.returncode)
    return Answer(said, errors=beside)


def ask_smi(
    run: Run, query: Sequence[str], timeout_s: float, is_row: Callable[[nvidia_smi.Row], bool]
) -> nvidia_smi.SmiAnswer:
    """Ask nvidia-smi for rows, which count with any exit code. Never raises."""
    return _rows(run((*_SMI, *query, _FORMAT), timeout_s), is_row)


def _give_up(process: subprocess.Popen[bytes]) -> None:
    # SIGKILL does not end a process that is blocked in the driver (state D): stop waiting for it.
    process.kill()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
    try:
        process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        process.returncode = -9  # otherwise the destructor warns about it


@dataclass(frozen=True, slots=True)
class _Smi:
    state: SmiState
    header: str | None = None
    gpus: str | None = None
    listed: str | None = None
    complete: bool = True


def _nvidia_smi(run: Run, timeout_s: float, problems: list[str]) -> _Smi:
    gpus = run((*_SMI, _QUERY, _FORMAT), timeout_s)
    if "not a valid field" in gpus.text:
        gpus = run(OLD_GPU_QUERY, timeout_s)
    if gpus.problem == "not installed":
        return _Smi("missing")
    found = _rows(gpus, nvidia_smi.is_gpu_row)
    if found.note:
        problems.append(f"nvidia-smi: {found.note}")
    if not found.rows:
        return _Smi("no-devices" if _NO_DEVICES in gpus.text else "failed")
    header = run(_SMI, timeout_s)
    if header.problem and (not header.code or header.code != gpus.code):  # else it is said already
        problems.append(f"nvidia-smi: {header.problem}")
    text = "\n".join(", ".join(row) for row in found.rows)
    sliced = any("Enabled" in row for row in found.rows)
    listed = run((*_SMI, "-L"), timeout_s).output if sliced else None
    complete = gpus.code not in _LOST_CODES and _LOST.search(gpus.text) is None
    return _Smi("answered", header.output or None, text, listed, complete)


def _rows(answer: Answer, is_row: Callable[[nvidia_smi.Row], bool]) -> nvidia_smi.SmiAnswer:
    problem = "" if answer.code else answer.problem
    return nvidia_smi.read_rows(answer.output, answer.errors, answer.code, problem, is_row)


def _signs(files: SystemFiles, problems: list[str]) -> Iterator[str]:
    """Yield what is there only with an NVIDIA GPU: device files, the driver, the PCI bus."""
    for name in _names(files, "dev", "nvidia*", problems):
        if _DEVICE_FILE.fullmatch(name):
            yield f"/dev/{name}"
    if _names(files, "proc/driver/nvidia", "version", problems):
        yield "/proc/driver/nvidia"
    for name in _names(files, PCI_DEVICES, "*", problems):
        if is_nvidia_gpu(files, f"{PCI_DEVICES}/{name}"):
            yield f"/{PCI_DEVICES}/{name}"


def is_nvidia_gpu(files: SystemFiles, device: str) -> bool:
    """Whether a folder of the PCI bus is that of a GPU from NVIDIA; its sound device is none."""
    with contextlib.suppress(OSError):
        vendor, kind = (
            files.read(f"{device}/{name}", 32).decode(errors="replace").strip()
            for name in ("vendor", "class")
        )
        return vendor == _NVIDIA and _DISPLAY.fullmatch(kind) is not None
    return False


def _missed(signs: Sequence[str], compatible: str) -> tuple[str, ...]:
    tree = "an NVIDIA device tree" if "nvidia,tegra" in compatible else ""
    if not (sign := signs[0] if signs else tree):
        return ()
    return (f"nvidia-smi is not installed, and {sign} is here: install or mount the driver",)


def _names(files: SystemFiles, folder: str, pattern: str, problems: list[str]) -> list[str]:
    try:
        return files.names(folder, pattern)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.append(f"/{folder}: {error.strerror}")
        return []


def _read(files: SystemFiles, path: str, problems: list[str]) -> str | None:
    try:
        return files.read(path).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(f"/{path}: {error.strerror}")
        return None


def _tensorrt(files: SystemFiles, problems: list[str]) -> tuple[str, ...]:
    folders = ("usr/lib/aarch64-linux-gnu", "usr/lib/x86_64-linux-gnu")
    found = (_names(files, folder, "libnvinfer.so.*", problems) for folder in folders)
    return tuple(sorted({name for names in found for name in names}))
