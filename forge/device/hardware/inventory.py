"""Parse the facts of a machine and match them against profiles. Pure.

docs/reference/device.md ("Hardware detection") has the rules and their sources.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from forge import nvpmodel
from forge.device.hardware.facts import Facts
from forge.profiles import MatchSection

__all__ = ["Gpu", "Hardware", "PlatformKind", "parse", "reasons_for", "rules"]

PlatformKind = Literal["discrete", "jetson", "cpu"]

_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

# L4T release to JetPack, most exact first. NVIDIA's release notes; jetson_stats' NVIDIA_JETPACK.
_JETPACKS: Final = (
    ("38.2.", "7.0"),
    ("38.4.0", "7.1"),
    ("39.2.0", "7.2"),
    ("39.2.", "7.2.{patch}"),
    ("36.", "6"),
)

# The compute capability of a SoC, used if nvidia-smi fails (jetson_stats' CUDA_TABLE).
_SOC_COMPUTE: Final = {"nvidia,tegra264": "11.0", "nvidia,tegra234": "8.7"}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Model):
    """One GPU as nvidia-smi reports it; None for what it does not report."""

    name: str
    memory_mib: int | None
    compute_capability: str | None


class Hardware(_Model):
    """The hardware and system of a machine, sizes in MiB; None for what is not known.

    Attributes:
        kind: `discrete` (a GPU with memory of its own), `jetson`, or `cpu`.
        memory_mib: memory of the machine (MemTotal).
        l4t: NVIDIA's Jetson Linux release, `38.4.0`.
        runtime: exact versions of runtimes that the system, not the bundle, provides.
        power_modes: names in /etc/nvpmodel.conf.
        notes: what could not be read, a sentence each.
    """

    platform: str
    kind: PlatformKind
    gpus: tuple[Gpu, ...]
    memory_mib: int | None
    driver: str | None
    cuda: str | None
    model: str | None
    compatible: tuple[str, ...]
    tnspec: str | None
    l4t: str | None
    jetpack: str | None
    runtime: dict[str, str]
    power_modes: tuple[str, ...]
    system: str
    kernel: str
    notes: tuple[str, ...]

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """Return the compute capabilities of all GPUs, without duplicates."""
        found = (gpu.compute_capability for gpu in self.gpus)
        return tuple(dict.fromkeys(value for value in found if value))

    @property
    def model_memory_mib(self) -> int | None:
        """Return the memory for models: of the largest discrete GPU, else of the machine."""
        if self.kind == "discrete":
            return max(gpu.memory_mib or 0 for gpu in self.gpus)
        return self.memory_mib


def parse(facts: Facts) -> Hardware:
    """Parse the facts. Pure; never raises: what cannot be parsed is None."""
    compatible = tuple(filter(None, (facts.device_tree_compatible or "").split("\0")))
    gpus, driver = _gpus(facts.smi_gpus or "")
    kind = _kind(gpus, compatible)
    if kind == "jetson":
        gpus = _jetson_gpus(gpus, compatible)
    l4t = _l4t(facts.tegra_release or "")
    architecture = _ARCHITECTURES.get(facts.machine, facts.machine or "unknown")
    return Hardware(
        platform=f"linux/{architecture}",
        kind=kind,
        gpus=gpus,
        memory_mib=_memory(facts.meminfo or ""),
        driver=driver,
        cuda=_first(r"CUDA (?:UMD )?Version:\s*(\d+(?:\.\d+)*)", facts.smi_header or ""),
        model=(facts.device_tree_model or "").strip("\0 \n") or None,
        compatible=compatible,
        tnspec=_first(r"(?m)^\s*TNSPEC\s+(\S+)", facts.boot_control or ""),
        l4t=l4t,
        jetpack=_jetpack(l4t),
        runtime=_runtime(facts.tensorrt_libraries) if kind == "jetson" else {},
        power_modes=nvpmodel.parse_config(facts.nvpmodel or "").names,
        system=_first(r'(?m)^PRETTY_NAME="?([^"\n]+)', facts.os_release or "") or "unknown",
        kernel=facts.kernel,
        notes=facts.problems,
    )


def rules(match: MatchSection) -> Iterator[tuple[str, str | int]]:
    """Yield the rules of a match section, as (field, value)."""
    for name, wanted in match.model_dump().items():
        if wanted is not None:
            yield name, wanted


def reasons_for(match: MatchSection, hardware: Hardware) -> tuple[str, ...] | None:
    """Return why a match section matches the machine, a phrase for each rule; None if it does not.

    All rules about the GPU must hold for the same GPU. An empty section matches nothing.
    """
    wanted = dict(rules(match))
    if not wanted:
        return None
    for gpu in hardware.gpus or (None,):
        known = _known(hardware, gpu)
        if all(_holds(rule, value, known) for rule, value in wanted.items()):
            return tuple(_phrase(rule, known) for rule in wanted)
    return None


def _known(hardware: Hardware, gpu: Gpu | None) -> Mapping[str, str | int | tuple[str, ...] | None]:
    memory = gpu.memory_mib if gpu and hardware.kind == "discrete" else hardware.memory_mib
    return {
        "gpu_name": gpu.name if gpu else None,
        "compute_capability": gpu.compute_capability if gpu else None,
        "device_tree_model": hardware.model,
        "device_tree_compatible": hardware.compatible,
        "tnspec": hardware.tnspec,
        "memory_mib_min": memory,
        "memory_mib_max": memory,
    }


def _holds(
    rule: str, wanted: str | int, known: Mapping[str, str | int | tuple[str, ...] | None]
) -> bool:
    have = known[rule]
    if isinstance(wanted, int):
        if not isinstance(have, int):
            return False
        return have >= wanted if rule == "memory_mib_min" else have <= wanted
    if isinstance(have, tuple):
        return wanted in have
    if rule == "compute_capability":
        return have == wanted
    return isinstance(have, str) and fnmatchcase(have, wanted)


def _phrase(rule: str, known: Mapping[str, str | int | tuple[str, ...] | None]) -> str:
    have = known[rule]
    value = ", ".join(have) if isinstance(have, tuple) else have
    return f"{rule.removesuffix('_min').removesuffix('_max')} is {value}"


def _gpus(text: str) -> tuple[tuple[Gpu, ...], str | None]:
    gpus: list[Gpu] = []
    driver = None
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        cells = [_known_cell(cell) for cell in row]
        if len(cells) not in {3, 4} or cells[0] is None:
            continue
        name, memory, version = cells[0], cells[1], cells[2]
        compute = cells[3] if len(cells) == 4 else None  # noqa: PLR2004  (the CSV's fourth column)
        memory_mib = int(memory) if memory and memory.isdecimal() else None
        gpus.append(Gpu(name=name, memory_mib=memory_mib, compute_capability=compute))
        driver = driver or version
    return tuple(gpus), driver


def _known_cell(cell: str) -> str | None:
    value = cell.strip()
    return None if value in {"", "N/A", "[N/A]", "[Not Supported]", "Not Supported"} else value


def _kind(gpus: tuple[Gpu, ...], compatible: tuple[str, ...]) -> PlatformKind:
    # An integer in memory.total is the only sign of a discrete GPU that all of them have.
    if any(gpu.memory_mib for gpu in gpus):
        return "discrete"
    if any(entry.startswith("nvidia,tegra") for entry in compatible):
        return "jetson"
    return "cpu"


def _jetson_gpus(gpus: tuple[Gpu, ...], compatible: tuple[str, ...]) -> tuple[Gpu, ...]:
    compute = next((_SOC_COMPUTE[soc] for soc in compatible if soc in _SOC_COMPUTE), None)
    if not gpus:
        return (Gpu(name="integrated", memory_mib=None, compute_capability=compute),)
    return tuple(
        gpu.model_copy(update={"compute_capability": gpu.compute_capability or compute})
        for gpu in gpus
    )


def _memory(meminfo: str) -> int | None:
    kib = _first(r"(?m)^MemTotal:\s+(\d+) kB", meminfo)
    return int(kib) // 1024 if kib else None


def _l4t(text: str) -> str | None:
    found = re.search(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    return f"{found[1]}.{found[2]}" if found else None


def _jetpack(l4t: str | None) -> str | None:
    for prefix, jetpack in _JETPACKS:
        if l4t is not None and (l4t == prefix or (prefix.endswith(".") and l4t.startswith(prefix))):
            return jetpack.format(patch=l4t.rpartition(".")[2])
    return None


def _runtime(libraries: tuple[str, ...]) -> dict[str, str]:
    versions = [name.removeprefix("libnvinfer.so.") for name in libraries]
    exact = [version for version in versions if re.fullmatch(r"\d+(\.\d+){2,3}", version)]
    return {"tensorrt": exact[0]} if len(exact) == 1 else {}


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None
