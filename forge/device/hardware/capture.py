"""A capture: what a machine says about itself, kept so that it can be asked again elsewhere.

It is recorded while the real readers ask the machine, so it contains what they read: a source that
a later version adds is captured without a change here. `collect` reads a capture as it reads a
machine.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from forge.device.hardware.facts import (
    PCI_DEVICES,
    Answer,
    Run,
    collect,
    is_nvidia_gpu,
)
from forge.device.hardware.inventory import Hardware, parse
from forge.energy.rails import read_rails
from forge.system_files import MAX_FILE_BYTES, SystemFiles

__all__ = ["FURTHER_FILES", "Capture", "Recorder", "hardware_of"]

# What detection does not read today, and who adds a profile needs: folder, glob of names, files.
# No serial numbers: they are in files of their own, next to these.
FURTHER_FILES: Final = (
    ("sys/class/thermal", "thermal_zone*", ("type", "temp")),
    ("sys/class/thermal", "cooling_device*", ("type", "cur_state", "max_state")),
    ("sys/devices", "soc0", ("family", "machine", "revision", "soc_id")),
    ("sys/class/devfreq", "*", ("cur_freq", "max_freq")),
    ("var/lib/nvpmodel", "status", ("",)),
)
_TRIP_POINTS: Final = ("thermal_zone*", "trip_point_*")
_PCI_IDS: Final = ("device", "subsystem_vendor", "subsystem_device")
_MISSING: Final = "not installed"
_NO_FIELD: Final = "the capture lacks a field: not a valid field to query"
_PCI_DEPTH: Final = 5  # sys/bus/pci/devices/0000:01:00.0
_MAX_SMALL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Capture:
    """What was read of a machine, and what its programs answered; it can be read like a machine.

    Attributes:
        files: content by path without the leading slash.
        unreadable: the kernel's errno by path, of files and folders that could not be read.
        listed: paths that exist and were not read, such as device files.
        answers: of commands, by their arguments.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()
    answers: Mapping[tuple[str, ...], Answer] = field(default_factory=dict)

    @property
    def paths(self) -> frozenset[str]:
        """Every path that the capture knows of."""
        return self.listed | self.files.keys() | self.unreadable.keys()

    def read(self, path: str, most: int = MAX_FILE_BYTES) -> bytes:
        """Return at most `most` bytes of a file. Raises OSError with the errno of the machine."""
        if path in self.unreadable:
            raise _error(self.unreadable[path], path)
        if path not in self.files:
            raise _error(errno.ENOENT, path)
        return self.files[path][:most]

    def names(self, folder: str, pattern: str) -> list[str]:
        """Return the names in a folder that a glob matches, sorted. Raises OSError."""
        if folder in self.unreadable:
            raise _error(self.unreadable[folder], folder)
        start = f"{folder}/"
        inside = (path.removeprefix(start) for path in self.paths if path.startswith(start))
        names = {path.partition("/")[0] for path in inside}
        return sorted(name for name in names if fnmatchcase(name, pattern))

    def run(self, argv: Sequence[str], _timeout_s: float = 0.0) -> Answer:
        """Return what the machine's command answered; one that is not here is not installed.

        A program that was asked other things is installed. nvidia-smi then answers as a driver that
        does not know a field, so that a capture made by another version of Forge can be read.
        """
        if (answer := self.answers.get(tuple(argv))) is not None:
            return answer
        if all(known[0] != argv[0] or answer.problem == _MISSING
               for known, answer in self.answers.items()):  # fmt: skip
            return Answer(problem=_MISSING)
        return Answer(problem=f"the capture has no answer of '{' '.join(argv)}'", output=_NO_FIELD)


def hardware_of(capture: Capture) -> Hardware:
    """Return what a captured machine is, by the code that asks a live one."""
    return parse(collect(capture, capture.run))


class Recorder:
    """The files and commands of a machine; keeps the first answer to everything that is asked.

    Args:
        files: of the machine.
        run: runs its commands.
    """

    def __init__(self, files: SystemFiles, run: Run) -> None:
        self._of_machine = files
        self._run = run
        self._files: dict[str, bytes] = {}
        self._unreadable: dict[str, int] = {}
        self._listed: set[str] = set()
        self._answers: dict[tuple[str, ...], Answer] = {}

    def read(self, path: str, most: int = MAX_FILE_BYTES) -> bytes:
        """Return at most `most` bytes of a file. Raises OSError with the kernel's errno."""
        try:
            found = self._of_machine.read(path, most)
        except OSError as error:
            self._failed(path, error)
            raise
        if path not in self._unreadable:
            self._files.setdefault(path, found)
        return found

    def names(self, folder: str, pattern: str) -> list[str]:
        """Return the names in a folder that a glob matches, sorted. Raises OSError."""
        try:
            found = self._of_machine.names(folder, pattern)
        except OSError as error:
            self._failed(folder, error)
            raise
        self._listed |= {f"{folder}/{name}" for name in found}
        return found

    def run(self, argv: Sequence[str], timeout_s: float) -> Answer:
        """Run a command of the machine."""
        answer = self._run(argv, timeout_s)
        self._answers.setdefault(tuple(argv), answer)
        return answer

    def read_further(self) -> None:
        """Read what detection does not read. Never raises for a file that cannot be read."""
        for folder, pattern, names in FURTHER_FILES:
            for found in self._names(folder, pattern):
                self._read_all(f"{folder}/{found}", names)
        for zone in self._names("sys/class/thermal", _TRIP_POINTS[0]):
            folder = f"sys/class/thermal/{zone}"
            self._read_all(folder, self._names(folder, _TRIP_POINTS[1]))
        read_rails(self)
        for device in self._gpus():
            self._read_all(device, _PCI_IDS)

    def capture(self) -> Capture:
        """Return what was asked until now, without the devices of other vendors on the PCI bus."""
        known = self._files.keys() | self._unreadable.keys()
        listed = frozenset(self._listed - known)
        whole = Capture(self._files, self._unreadable, listed, self._answers)
        others = _other_devices(whole)

        def kept(path: str) -> bool:
            return "/".join(path.split("/")[:_PCI_DEPTH]) not in others

        return Capture(
            {path: data for path, data in whole.files.items() if kept(path)},
            {path: number for path, number in whole.unreadable.items() if kept(path)},
            frozenset(filter(kept, whole.listed)),
            dict(whole.answers),
        )

    def _gpus(self) -> list[str]:
        devices = (f"{PCI_DEVICES}/{name}" for name in self._names(PCI_DEVICES, "*"))
        return [device for device in devices if is_nvidia_gpu(self, device)]

    def _names(self, folder: str, pattern: str) -> list[str]:
        try:
            return self.names(folder, pattern)
        except OSError:
            return []

    def _read_all(self, folder: str, names: Iterable[str]) -> None:
        for name in names:
            try:
                self.read(f"{folder}/{name}".rstrip("/"), _MAX_SMALL_BYTES)
            except OSError:
                continue  # recorded with its errno

    def _failed(self, path: str, error: OSError) -> None:
        there = error.errno not in {None, errno.ENOENT, errno.ENOTDIR}
        if there and path not in self._files:
            self._unreadable.setdefault(path, int(error.errno or errno.EIO))


def _other_devices(capture: Capture) -> frozenset[str]:
    """Return the PCI devices that are known not to be GPUs of NVIDIA."""
    devices = {f"{PCI_DEVICES}/{name}" for name in capture.names(PCI_DEVICES, "*")}
    unsure = {path.rpartition("/")[0] for path in capture.unreadable}
    return frozenset(one for one in devices - unsure if not is_nvidia_gpu(capture, one))


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), f"/{path}")
