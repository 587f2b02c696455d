"""Power monitors of boards below a folder, as the kernel's hwmon shows them.

Labels are those of NVIDIA's device trees; voltages and currents are put together so that the power
is that of a public tegrastats line. No board here was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["AGX_ORIN", "ORIN_NX", "THOR", "Channels", "monitor", "put", "rapl"]

Channels = Mapping[str, tuple[int, int]]  # label: mV, mA

# VDD_GPU_SOC 3150mW, VDD_CPU_CV 14312mW, VIN_SYS_5V0 4968mW, VDDQ_VDD2_1V8AO 1091mW
AGX_ORIN: Final[Mapping[str, Channels]] = {
    "ina3221/1-0040": {
        "VDD_GPU_SOC": (19688, 160),
        "VDD_CPU_CV": (19605, 730),
        "VIN_SYS_5V0": (4968, 1000),
    },
    "ina3221/1-0041": {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (4968, 220)},
}
# VDD_IN 5080mW, of which VDD_CPU_GPU_CV 1210mW and VDD_SOC 1450mW
ORIN_NX: Final[Mapping[str, Channels]] = {
    "ina3221/1-0040": {
        "VDD_IN": (5080, 1000),
        "VDD_CPU_GPU_CV": (5042, 240),
        "VDD_SOC": (5000, 290),
    },
}
# VDD_GPU 1962mW, VDD_CPU_SOC_MSS 5887mW, VIN_SYS_5V0 5635mW, VIN 19780mW
THOR: Final[Mapping[str, Channels]] = {
    "ina3221/2-0040": {
        "VDD_GPU": (19620, 100),
        "VDD_CPU_SOC_MSS": (19623, 300),
        "VIN_SYS_5V0": (4900, 1150),
    },
    "ina238/2-0044": {"VIN": (19780, 1000)},
}


def put(root: Path, board: Mapping[str, Channels], *, first: int = 0) -> list[Path]:
    """Put the monitors of a board below a root, and return their folders in /sys/class/hwmon."""
    folders = []
    for number, (place, channels) in enumerate(board.items(), start=first):
        folder = root / f"sys/class/hwmon/hwmon{number}"
        monitor(folder, place.partition("/")[0], channels)
        folders.append(folder)
    return folders


def monitor(folder: Path, chip: str, channels: Channels) -> None:
    """Write the files of one chip: an ina238 has no labels and multiplies itself, in µW."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{chip}\n")
    for number, (label, (millivolt, milliampere)) in enumerate(channels.items(), start=1):
        (folder / f"in{number}_input").write_text(f"{millivolt}\n")
        (folder / f"curr{number}_input").write_text(f"{milliampere}\n")
        if chip == "ina238":
            (folder / f"power{number}_input").write_text(f"{millivolt * milliampere}\n")
            (folder / "in0_input").write_text("2\n")  # shunt voltage
        else:
            (folder / f"in{number}_label").write_text(f"{label}\n")
            (folder / f"in{number + 3}_input").write_text("800\n")
    if chip == "ina3221":
        (folder / "in7_label").write_text("sum of shunt voltages\n")
        (folder / "in7_input").write_text("2400\n")


def rapl(root: Path, zone: str, name: str, microjoule: int, most: int = 262_143_328_850) -> None:
    """Write the counter of one zone of RAPL."""
    folder = root / "sys/class/powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoule}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
