"""Machines that say what they say: a fake nvidia-smi on PATH, files, real exit codes and errnos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Answer, collect, run_command
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.watch import HardwareWatch

__all__ = ["CARD", "JETSON", "FakeMachine", "eagain", "watch_of"]

CARD: Final = ComputeTarget("card")
JETSON: Final = ComputeTarget("soc", tegra=True)

# Answers by what is asked; a missing answer is silence. Its arguments are kept.
_SMI: Final = """#!/bin/sh
here='{folder}'
echo "$*" >> "$here/asked"
case "$*" in
  *query-gpu=name*) name=query ;;
  *query-gpu=index,temp*) name=temp ;;
  *query-gpu=index,name*) name=power ;;
  *query-gpu=index,uuid,util*) name=utilisation ;;
  *query-compute-apps*) name=processes ;;
  *query-gpu=index,uuid,power*) name=drawn ;;
  *query-gpu=index,uuid*) name=choice ;;
  -L) name=list ;;
  *TEMPERATURE*) name=limits ;;
  *) name=plain ;;
esac
test -f "$here/$name" && cat "$here/$name"
cat "$here/errors" >&2
exit "$(cat "$here/code")"
"""


@dataclass
class FakeMachine:
    """A machine below a folder; put `path` first on PATH.

    Attributes:
        folder: empty at first.
        machine: `uname -m`.
    """

    folder: Path
    machine: str = "x86_64"

    @property
    def root(self) -> Path:
        """Where its /proc, /etc, /dev and /sys are."""
        return self.folder / "root"

    @property
    def path(self) -> str:
        """PATH with its programs and the shell's."""
        return f"{self.folder / 'bin'}:/usr/bin:/bin"

    def smi(self, query: str, *, code: int = 0, errors: str = "", **others: str) -> None:
        """Let nvidia-smi answer so from now on.

        Others: temp, limits, power, drawn, choice, list, plain, utilisation, processes.
        """
        folder = self.folder / "smi"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {"query": query, "errors": errors, "code": str(code), **others}.items():
            (folder / name).write_text(text)
        program = self.folder / "bin" / "nvidia-smi"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(_SMI.format(folder=folder))
        program.chmod(0o755)

    def no_smi(self) -> None:
        """Take nvidia-smi away."""
        (self.folder / "bin" / "nvidia-smi").unlink(missing_ok=True)

    def file(self, path: str, text: str = "") -> Path:
        """Write a file below the root; `\\0` stands for a NUL byte."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("\\0", "\0"))
        return target

    def memory(self, mib: int) -> None:
        """Set MemTotal."""
        self.file("proc/meminfo", f"MemTotal: {mib * 1024} kB\n")

    def pci_gpu(self, address: str = "0000:01:00.0", kind: str = "0x030000") -> None:
        """Put a device of NVIDIA on the PCI bus."""
        self.file(f"sys/bus/pci/devices/{address}/vendor", "0x10de\n")
        self.file(f"sys/bus/pci/devices/{address}/class", f"{kind}\n")

    def zone(self, number: int, name: str, temp: str | None) -> Path:
        """Add a thermal zone; None: a folder where the file should be."""
        folder = self.root / f"sys/class/thermal/thermal_zone{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{name}\n")
        if temp is not None:
            (folder / "temp").write_text(f"{temp}\n")
        return folder

    def trip(self, zone: Path, number: int, kind: str, celsius: float) -> None:
        """Add a trip point to a thermal zone."""
        (zone / f"trip_point_{number}_type").write_text(f"{kind}\n")
        (zone / f"trip_point_{number}_temp").write_text(f"{celsius * 1000:.0f}\n")

    def cooling(self, number: int, name: str, state: str, most: str) -> Path:
        """Add a cooling device, or change its state."""
        folder = self.root / f"sys/class/thermal/cooling_device{number}"
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in (("type", name), ("cur_state", state), ("max_state", most)):
            (folder / file).write_text(f"{text}\n")
        return folder

    def hardware(self) -> Hardware:
        """What the machine is, by the real collector, processes and parser."""
        return parse(collect(self.root, self.run, 5.0))

    def run(self, argv: Sequence[str], timeout_s: float) -> Answer:
        """Run a command; `uname -m` is the machine's own."""
        return Answer(self.machine) if argv == ("uname", "-m") else run_command(argv, timeout_s)


def watch_of(hardware: Hardware) -> HardwareWatch:
    """A watch that always sees this machine."""
    return HardwareWatch(lambda: hardware)


@contextmanager
def eagain(path: Path) -> Iterator[None]:
    """Let read() of a path fail with EAGAIN, as that of a power-gated zone: an empty pipe."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)  # with a writer, an empty pipe has nothing to read yet
    try:
        yield
    finally:
        os.close(writer)
