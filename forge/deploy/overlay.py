"""The settings of a pod that depend on the profile. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from forge.deploy.labels import Rule, rules
from forge.images.bases import Bases
from forge.profiles import Profile

__all__ = ["HostFile", "Overlay", "overlay"]

_MIB_IN_GIB: Final = 1024
# Two slots and one more bundle, since the old tree is kept during the download of a new one.
_BUNDLES: Final = 3
_LEAST_STORAGE_GIB: Final = 10
_LEAST_MEMORY_MIB: Final = 2048
_AGENT_MIB: Final = 512


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file or folder of the node that the agent reads.

    Attributes:
        path: on the node.
        inside: in the container.
        kind: as hostPath names it.
    """

    path: str
    inside: str
    kind: Literal["File", "Directory"] = "File"


# What identifies a Jetson. The folder behind /proc/device-tree is masked in containers; it can be
# mounted elsewhere.
_JETSON_FILES: Final = (
    HostFile("/etc/nv_tegra_release", "/etc/nv_tegra_release"),
    HostFile("/etc/nvpmodel.conf", "/etc/nvpmodel.conf"),
    HostFile("/sys/firmware/devicetree/base", "/run/forge/device-tree", "Directory"),
)


@dataclass(frozen=True, slots=True)
class Overlay:
    """The overlay of one profile.

    Attributes:
        profile: name of the profile.
        description: description of the device.
        rules: node affinity of the SKU.
        image: image of the pod: a reference by digest, or an image name of `forge run images`,
            which has no digest before it is built.
        gpus: limit of `nvidia.com/gpu`; 0: none.
        runtime_class: runtime class of the pod; empty: the default of the cluster.
        host_files: mounted from the node, read-only.
        groups: supplementary groups of the pod, for device files.
        memory_mib: memory request, MiB.
        storage_gib: size of the slots' volume, GiB.
    """

    profile: str
    description: str
    rules: tuple[Rule, ...]
    image: str
    gpus: int
    runtime_class: str
    host_files: tuple[HostFile, ...]
    groups: tuple[int, ...]
    memory_mib: int
    storage_gib: int

    @property
    def pinned(self) -> bool:
        """Return whether the image has a digest."""
        return "@" in self.image


def overlay(profile: Profile, bases: Bases) -> Overlay:
    """Return the overlay of a profile; `bases` resolves the name of its image."""
    hardware, requires = profile.hardware, profile.requires
    jetson = hardware.memory_kind == "unified"
    # With a discrete GPU, requires.memory_mib is the memory of the GPU and not of the node.
    on_host = 0 if hardware.memory_kind == "discrete" else requires.memory_mib + _AGENT_MIB
    disk_mib = requires.free_disk_mib + _BUNDLES * requires.bundle_mib
    return Overlay(
        profile=profile.name,
        description=profile.description,
        rules=rules(profile),
        image=_image(profile, bases),
        gpus=1 if hardware.compute_capability and not jetson else 0,
        runtime_class="nvidia" if jetson else "",
        host_files=_JETSON_FILES if jetson else (),
        groups=(44,) if jetson else (),  # video: /dev/nvhost-*, /dev/nvmap
        memory_mib=max(_LEAST_MEMORY_MIB, on_host),
        storage_gib=max(_LEAST_STORAGE_GIB, -(-disk_mib // _MIB_IN_GIB)),
    )


def _image(profile: Profile, bases: Bases) -> str:
    wanted = profile.serving.image
    if profile.serving.server == "environment" or wanted is None:
        return "device"
    base = bases.find(wanted)
    return f"serving-{base}" if base else wanted
