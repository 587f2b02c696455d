"""Parse the facts of a machine. Pure.

docs/reference/device.md ("Hardware detection") has the rules and their sources.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from forge import nvpmodel
from forge.device.hardware.facts import Facts
from forge.device.hardware.gpus import SOC_BY_GPU, Gpu, parse_gpus

__all__ = ["Hardware", "Presence", "parse"]

Presence: TypeAlias = Literal["present", "absent", "unknown"]

_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

# L4T release to JetPack, most exact first. NVIDIA's release notes; the maps of jetson_stats and
# jetson-containers. IGX software and early access are not JetPack releases: no `requires.jetpack`
# of a release takes their names.
_JETPACKS: Final = (
    ("36.4.0", "6.1"),
    ("36.4.3", "6.2"),
    ("36.4.4", "6.2.1"),
    ("36.5.0", "6.2.2"),
    ("36.", "6"),
    ("38.2.", "7.0"),
    ("38.4.0", "7.1"),
    ("38.5.0", "IGX 2.0"),
    ("39.0.0", "7.2 early access"),
    ("39.2.0", "7.2"),
    ("39.2.", "7.2.{patch}"),
)

# soc_id of /sys/devices/soc0 is the chip's number (0x23, 0x26) in decimal: drivers/soc/tegra/fuse.
_SOC_BY_ID: Final = {"35": "nvidia,tegra234", "38": "nvidia,tegra264"}
# The GPU's clock in /sys/class/devfreq: jetson_stats' test for a Thor, and its path on Orin.
_SOC_BY_CLOCK: Final = {"17000000.gpu": "nvidia,tegra234", "gpu-gpc-0": "nvidia,tegra264"}

# The compute capability of a SoC, used if nvidia-smi fails (jetson_stats' CUDA_TABLE).
_SOC_COMPUTE: Final = {"nvidia,tegra264": "11.0", "nvidia,tegra234": "8.7"}


class Hardware(BaseModel):
    """The hardware and system of a machine, sizes in MiB; None for what is not known.

    Attributes:
        nvidia: whether an NVIDIA GPU is here. `unknown`: there is a driver or a device, and
            nvidia-smi does not list it now.
        gpus: those that are known, in nvidia-smi's order.
        complete: False: nvidia-smi says that a GPU is lost, so there are more than `gpus`.
        memory_mib: memory of the machine (MemTotal).
        tree_known: False: this is a Jetson whose device tree cannot be read, as in a container.
        l4t: NVIDIA's Jetson Linux release, `38.4.0`.
        runtime: exact versions of runtimes that the system, not the bundle, provides.
        power_modes: names in /etc/nvpmodel.conf.
        notes: what could not be read, a sentence each.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    platform: str
    nvidia: Presence = "absent"
    gpus: tuple[Gpu, ...]
    complete: bool = True
    memory_mib: int | None
    driver: str | None
    cuda: str | None
    model: str | None
    compatible: tuple[str, ...]
    tree_known: bool = True
    tnspec: str | None
    l4t: str | None
    jetpack: str | None
    runtime: dict[str, str]
    power_modes: tuple[str, ...]
    system: str
    kernel: str
    notes: tuple[str, ...]

    @property
    def tegra(self) -> bool:
        """Whether the machine's own chip is one of NVIDIA's."""
        return any(entry.startswith("nvidia,tegra") for entry in self.compatible)

    def memory_of(self, gpu: Gpu | None) -> int | None:
        """Return the memory for models on a GPU, or on the CPU: an integrated one shares it."""
        if gpu is None or gpu.kind == "integrated":
            return self.memory_mib
        return gpu.memory_mib


def parse(facts: Facts) -> Hardware:
    """Parse the facts. Pure; never raises: what cannot be parsed is None."""
    tree = tuple(filter(None, (facts.device_tree_compatible or "").split("\0")))
    gpus, driver = parse_gpus(facts.smi_gpus or "", facts.smi_list or "", facts.smi_header or "")
    compatible = tree or _chip(gpus, facts)
    tegra = any(entry.startswith("nvidia,tegra") for entry in compatible)
    if tegra:
        gpus = _tegra_gpus(gpus, compatible)
    l4t = _l4t(facts.tegra_release or "")
    architecture = _ARCHITECTURES.get(facts.machine, facts.machine or "unknown")
    return Hardware(
        platform=f"linux/{architecture}",
        nvidia=_presence(facts, gpus, l4t),
        gpus=gpus,
        complete=facts.smi_complete,
        memory_mib=_memory(facts.meminfo or ""),
        driver=driver,
        cuda=_first(r"CUDA (?:UMD )?Version:\s*(\d+(?:\.\d+)*)", facts.smi_header or ""),
        model=(facts.device_tree_model or "").strip("\0 \n") or None,
        compatible=compatible,
        tree_known=bool(tree) or not (tegra or l4t),
        tnspec=_first(r"(?m)^\s*TNSPEC\s+(\S+)", facts.boot_control or ""),
        l4t=l4t,
        jetpack=_jetpack(l4t),
        runtime=_runtime(facts.tensorrt_libraries) if tegra or l4t else {},
        power_modes=nvpmodel.parse_config(facts.nvpmodel or "").names,
        system=_first(r'(?m)^PRETTY_NAME="?([^"\n]+)', facts.os_release or "") or "unknown",
        kernel=facts.kernel,
        notes=facts.problems,
    )


def _chip(gpus: tuple[Gpu, ...], facts: Facts) -> tuple[str, ...]:
    """Return the chip by what a container sees of a Jetson, where it sees no device tree.

    That is the name of an integrated GPU, else the kernel's number of the chip, else the clock of
    its GPU.
    """
    named = [SOC_BY_GPU.get(gpu.name or "") for gpu in gpus if gpu.kind == "integrated"]
    family, soc_id = ((text or "").strip() for text in facts.soc)
    numbered = _SOC_BY_ID.get(soc_id) if family == "Tegra" else None
    clocked = [_SOC_BY_CLOCK.get(name) for name in facts.devfreq]
    found = next(filter(None, [*named, numbered, *clocked]), None)
    return (found,) if found else ()


def _presence(facts: Facts, gpus: tuple[Gpu, ...], l4t: str | None) -> Presence:
    """Absent only where nothing says that there is one: a driver that fails says nothing."""
    if gpus:
        return "present"
    here = facts.nvidia_signs or l4t or facts.smi_state == "failed"
    return "unknown" if here else "absent"


def _tegra_gpus(gpus: tuple[Gpu, ...], compatible: tuple[str, ...]) -> tuple[Gpu, ...]:
    compute = next((_SOC_COMPUTE[soc] for soc in compatible if soc in _SOC_COMPUTE), None)
    if not gpus:
        own = Gpu(name="integrated", memory_mib=None, compute_capability=compute, kind="integrated")
        return (own,)
    return tuple(
        gpu.model_copy(update={"compute_capability": gpu.compute_capability or compute})
        if gpu.kind == "integrated"
        else gpu
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
