"""Describe this machine for a result. `here`, `ask_smi` and `chosen_gpu` read the system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from forge import nvidia_smi, nvpmodel
from forge.energy.rails import read_rails
from forge.smoke.gpu_choice import (
    GPU_QUERIES,
    ChosenGpu,
    GpuWanted,
    choose,
    is_choice_row,
    parse,
)
from forge.smoke.result import Machine
from forge.system_files import RootFiles

__all__ = [
    "ask_smi",
    "chosen_gpu",
    "here",
    "output_of",
    "parse_cpu",
    "parse_gpu",
    "parse_memory_mib",
    "parse_power_limit_w",
]

_TIMEOUT_S = 20.0
_FORMAT = "--format=csv,noheader,nounits"


def chosen_gpu(wanted: GpuWanted, root: Path = Path("/")) -> ChosenGpu:
    """Return what serves on this machine, by nvidia-smi and CUDA_VISIBLE_DEVICES."""
    rows: tuple[nvidia_smi.Row, ...] = ()
    for query in GPU_QUERIES:
        rows = rows or ask_smi(query, is_choice_row).rows
    tegra = bool(read_rails(RootFiles(root))) or (root / "etc/nv_tegra_release").exists()
    return choose(wanted, parse(rows), os.environ, tegra=tegra)


def here(chosen: ChosenGpu | None = None) -> Machine:
    """Describe this machine from /proc, nvidia-smi and nvpmodel, as far as available.

    Args:
        chosen: what serves; of several GPUs that one is described, without one the first.
    """
    gpu = chosen.gpu if chosen else None
    only = ("-i", gpu.uuid or str(gpu.index)) if gpu else ()
    name, driver = (gpu.name, gpu.driver) if gpu else (None, None)
    if name is None:
        name, driver = parse_gpu(
            output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
        )
    limit = output_of("nvidia-smi", *only, "--query-gpu=power.limit", _FORMAT)
    mode = nvpmodel.parse_query(output_of("nvpmodel", "-q"))
    return Machine(
        cpu=parse_cpu(_read("/proc/cpuinfo"), os.uname().machine),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=parse_memory_mib(_read("/proc/meminfo")),
        gpu=name,
        driver=driver,
        power_mode=mode.name if mode else None,
        power_limit_w=parse_power_limit_w(limit),
    )


def parse_cpu(cpuinfo: str, architecture: str) -> str:
    """Return the name of the CPU, or its numbers, since arm64 kernels provide no name."""
    if match := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE):
        return " ".join(match.group(1).split())
    implementer = re.search(r"^CPU implementer\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    part = re.search(r"^CPU part\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    numbers = f" {implementer.group(1)}:{part.group(1)}" if implementer and part else ""
    return f"{architecture}{numbers}"


def parse_memory_mib(meminfo: str) -> int:
    """Return MemTotal in MiB, or 0 if it is missing."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def parse_gpu(text: str) -> tuple[str | None, str | None]:
    """Return name and driver of the first GPU, from `name, driver_version` lines."""
    name, _, driver = text.strip().partition("\n")[0].rpartition(",")
    return (name.strip(), driver.strip()) if name and re.search(r"\d", driver) else (None, None)


def parse_power_limit_w(text: str) -> float | None:
    """Return the current power limit of the first GPU in W, or None if not supported."""
    match = re.match(r"\s*(\d{1,5}(?:\.\d{1,3})?)\s*$", text.partition("\n")[0])
    return float(match.group(1)) if match else None


def ask_smi(query: str, is_row: Callable[[nvidia_smi.Row], bool] = bool) -> nvidia_smi.SmiAnswer:
    """Ask nvidia-smi one query. Its rows count with any exit code; never raises.

    Args:
        query: such as `--query-gpu=index,uuid`.
        is_row: whether cells are a row of it; by default any line.
    """
    if (program := nvidia_smi.locate()) is None:
        return nvidia_smi.SmiAnswer(note="nvidia-smi is not installed")
    try:
        done = subprocess.run(
            (program, query, _FORMAT),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return nvidia_smi.SmiAnswer(note=str(error))
    output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return nvidia_smi.read_rows(output, errors, done.returncode, "", is_row)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def output_of(*argv: str) -> str:
    """Return the output of a program, or an empty text if it is missing or fails.

    nvidia-smi is also looked for where it is kept outside PATH; its rows are good after a warning.
    """
    smi = argv[0] == nvidia_smi.NAME
    program = nvidia_smi.locate() if smi else shutil.which(argv[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            (program, *argv[1:]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    good = done.returncode == 0 or (smi and done.returncode in nvidia_smi.ROWS_ARE_GOOD)
    return done.stdout.decode(errors="replace") if good else ""
