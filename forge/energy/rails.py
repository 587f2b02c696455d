"""Read the power rails of a Jetson's board: the kernel's hwmon devices of ina3221, ina238, ….

Sources. Files and units: the kernel's Documentation/hwmon/{ina3221,ina238,sysfs-interface}.rst. No
privilege is needed. Labels: arch/arm64/boot/dts/nvidia/tegra234-p3701.dtsi (AGX Orin) and
tegra234-p3767.dtsi (Orin NX, Orin Nano); tegrastats of a Jetson AGX Thor with L4T R38.4.

Which rail is the total, so that no watt counts twice:

- VIN, the ina238 on the carrier board of Thor, which has no label: all of the board. It is taken
  for that only next to the rails of a Thor module, and if it is the only one. A tegrastats line has
  VIN 19780 mW next to three rails of the module of 13484 mW together; jetson_stats#900 takes it as
  the total.
- VDD_IN of Orin NX, Orin Nano, Xavier NX (and POM_5V_IN, 5V_IN of older boards): all of the module.
  "VDD_IN is the total power of module": NVIDIA in forums.developer.nvidia.com/t/200883.
- AGX Orin has neither. Its module is fed by VDD_GPU_SOC, VDD_CPU_CV and VIN_SYS_5V0, which are
  added. VDDQ_VDD2_1V8AO, the memory's, is measured at 5 V too and taken for a part of VIN_SYS_5V0:
  an inference, about 1.1 W of 23 W in a public tegrastats line. The carrier board is not included.
- A Thor module on another carrier board, likewise: VDD_GPU, VDD_CPU_SOC_MSS and VIN_SYS_5V0.
- AGX Xavier: GPU, CPU, SOC, CV, VDDRQ and SYS5V (energymon's jetson/JetsonPowerRails.md).

tegrastats is not run: it prints these same files. JetPack 4's iio devices are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from forge.energy.power_reading import PowerReading, RailPower
from forge.system_files import SystemFiles, text_of

__all__ = ["board_power", "read_rails", "total_of"]

_CLASS: Final = "sys/class/hwmon"
_DRIVERS: Final = "sys/bus/i2c/drivers"  # where /sys/class is not complete, as in some containers
_CHIP: Final = re.compile(r"ina[0-9]{3,4}x?")
_CHANNELS: Final = (1, 2, 3)
_UNCONNECTED: Final = "NC"
_THOR_RAIL: Final = "VDD_CPU_SOC_MSS"  # of no other module
_THOR_INPUT: Final = "ina238"  # its driver labels no channel
_INPUTS: Final = ("VIN", "VDD_IN", "POM_5V_IN", "5V_IN")
_SUMS: Final = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
_MICRO: Final = 1e-6
_MOST_W: Final = 2000.0  # no board here; a monitor that returns all ones
_LEAST_W: Final = -1.0  # more than the offset of a monitor at rest
_MAX_CHIPS: Final = 64
_MAX_FILE_BYTES: Final = 256


def board_power(files: SystemFiles) -> PowerReading:
    """Read the rails of the board once, and their total. Never raises for a file that fails."""
    found = total_of(read_rails(files))
    if not found.rails and _all_chips(files):
        return replace(
            found, problem="the power monitor of the board has no label that can be read"
        )
    return found


def read_rails(files: SystemFiles) -> tuple[RailPower, ...]:
    """Read every labelled rail, in the order of the devices; none on a machine without monitors."""
    chips = _all_chips(files)
    rails = [rail for folder, chip in chips for rail in _rails(files, folder, chip)]
    names = [rail.name for rail in rails]
    if _THOR_RAIL in names and names.count(_THOR_INPUT) == 1:
        at = names.index(_THOR_INPUT)
        rails[at] = RailPower(_INPUTS[0], rails[at].watts)
    return tuple(rails)


def _all_chips(files: SystemFiles) -> list[tuple[str, str]]:
    chips = [*_chips(files, _of_class(files))] or [*_chips(files, _of_drivers(files))]
    return chips[:_MAX_CHIPS]


def total_of(rails: Sequence[RailPower]) -> PowerReading:
    """Return the power of the board, or why it is not known. Pure.

    A rail that is part of the total and could not be read makes the total unknown: without it the
    sum would be too small. Of two rails with one name it is not known which is meant.
    """
    names = [rail.name for rail in rails]
    by_name = {rail.name: rail.watts for rail in rails if names.count(rail.name) == 1}
    totals = (*((name,) for name in _INPUTS), *_SUMS)
    parts = next((names for names in totals if set(names) <= by_name.keys()), None)
    kept = tuple(rails)
    if parts is None:
        found = ", ".join(names)
        why = f"it is not known which of the rails {found} is the total" if found else _NO_MONITOR
        return PowerReading(rails=kept, problem=why)
    watts = [by_name[name] for name in parts]
    known = [one for one in watts if one is not None]
    scope = " + ".join(parts)
    if len(known) < len(parts):
        lost = ", ".join(name for name in parts if by_name[name] is None)
        return PowerReading(None, "hwmon", scope, rails=kept, problem=f"{lost} could not be read")
    return PowerReading(max(0.0, sum(known)), "hwmon", scope, rails=kept)


_NO_MONITOR: Final = "the board has no power monitor (ina3221, ina238) in /sys/class/hwmon"


def _of_class(files: SystemFiles) -> Iterator[str]:
    for name in _names(files, _CLASS, "hwmon*"):
        yield f"{_CLASS}/{name}"


def _of_drivers(files: SystemFiles) -> Iterator[str]:
    for driver in _names(files, _DRIVERS, "ina*"):
        for device in _names(files, f"{_DRIVERS}/{driver}", "*-00*"):
            folder = f"{_DRIVERS}/{driver}/{device}/hwmon"
            for name in _names(files, folder, "hwmon*"):
                yield f"{folder}/{name}"


def _chips(files: SystemFiles, folders: Iterator[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        chip = text_of(files, f"{folder}/name", _MAX_FILE_BYTES)
        if chip is not None and _CHIP.fullmatch(chip):
            yield folder, chip


def _rails(files: SystemFiles, folder: str, chip: str) -> Iterator[RailPower]:
    """Yield the labelled channels; of a chip with one channel that one.

    ina3221's in7, the sum of shunt voltages, has a label and is not a rail.
    """
    labels = [
        (one, text_of(files, f"{folder}/in{one}_label", _MAX_FILE_BYTES)) for one in _CHANNELS
    ]
    if not any(label for _, label in labels) and not chip.startswith("ina3221"):
        labels = [(1, text_of(files, f"{folder}/label", _MAX_FILE_BYTES) or chip)]
    for channel, label in labels:
        if label and label != _UNCONNECTED:
            yield RailPower(label, _watts(files, folder, channel))


def _watts(files: SystemFiles, folder: str, channel: int) -> float | None:
    """Return µW as W where the chip multiplies, else mV times mA; None if that cannot be read."""
    watts = _integer(files, f"{folder}/power{channel}_input")
    if watts is None:
        millivolt = _integer(files, f"{folder}/in{channel}_input")
        milliampere = _integer(files, f"{folder}/curr{channel}_input")
        if millivolt is None or milliampere is None:
            return None
        watts = millivolt * milliampere
    found = watts * _MICRO
    return found if _LEAST_W <= found <= _MOST_W else None


def _names(files: SystemFiles, folder: str, pattern: str) -> list[str]:
    try:
        found = files.names(folder, pattern)
    except OSError:
        return []
    return sorted(found, key=lambda name: (len(name), name))


def _integer(files: SystemFiles, path: str) -> int | None:
    text = text_of(files, path, _MAX_FILE_BYTES) or ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None
