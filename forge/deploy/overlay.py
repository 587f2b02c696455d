"""What of a pod depends on the profile. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from forge.deploy.labels import Rule, rules
from forge.images.bases import Bases
from forge.profiles import Profile

__all__ = ["Overlay", "overlay"]

_MIB_IN_GIB: Final = 1024
# Two slots, and one bundle more: the old tree goes on being there while the new one comes.
_BUNDLES: Final = 3
_LEAST_STORAGE_GIB: Final = 10
_LEAST_MEMORY_MIB: Final = 2048
_AGENT_MIB: Final = 512
# What a Jetson is recognised by lies on its host; /proc/device-tree is seen in every container.
_JETSON_FILES: Final = ("/etc/nv_tegra_release", "/etc/nvpmodel.conf")


@dataclass(frozen=True, slots=True)
class Overlay:
    """One profile's overlay.

    Attributes:
        profile: its name.
        description: of the device.
        rules: which nodes are that SKU.
        image: what the pod must run: a reference by digest, or a name that `forge run images`
            gives, which has no digest before it was built.
        gpus: limit of `nvidia.com/gpu`; 0: none.
        runtime_class: of the pod; empty: the cluster's own.
        host_files: read from the node.
        groups: further groups of the pod, for device files.
        memory_mib: requested of the node, MiB.
        storage_gib: of the slots' volume, GiB.
    """

    profile: str
    description: str
    rules: tuple[Rule, ...]
    image: str
    gpus: int
    runtime_class: str
    host_files: tuple[str, ...]
    groups: tuple[int, ...]
    memory_mib: int
    storage_gib: int

    @property
    def pinned(self) -> bool:
        """Whether the image is known by digest already."""
        return "@" in self.image


def overlay(profile: Profile, bases: Bases) -> Overlay:
    """The overlay of a profile; `bases` says which image is built on what it names."""
    hardware, requires = profile.hardware, profile.requires
    jetson = hardware.memory_kind == "unified"
    # Of a discrete GPU requires.memory_mib is its own memory and not the node's.
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
