"""Check whether a bundle can run on this machine, before more than metadata is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forge.bundle import Fit, ServingSettings
from forge.container import RunningImage, is_reference, start_in
from forge.device.hardware.compute_target import ComputeTarget, target_of
from forge.device.hardware.gpus import named
from forge.device.hardware.inventory import Hardware
from forge.errors import FitError
from forge.memory.formula import ServedMemory

__all__ = ["Refusal", "check", "check_serving", "disk_mib", "require"]


_AGAIN: Final = "it is asked again at each check; run nvidia-smi, or reboot after a driver update"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason why the bundle cannot run on this machine, and what to do about it.

    Attributes:
        what: the reason.
        hint: what to do.
        known: False: it is not known now whether the bundle can run.
    """

    what: str
    hint: str
    known: bool = True

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}"


def check(
    fit: Fit,
    hardware: Hardware,
    free_disk_mib: int | None,
    bundle_size: int,
    serving_mib: int = 0,
    wanted_gpu: str | None = None,
    served: ServedMemory | None = None,
) -> tuple[Refusal, ...]:
    """Return every reason why the bundle does not fit; empty if it does. Pure.

    What it needs of a GPU must hold for one GPU: the one that it would be served on.

    Args:
        fit: what the bundle requires.
        hardware: of this machine.
        free_disk_mib: free space of the slots, including what the update replaces; None if the
            bundle is installed already.
        bundle_size: bytes of the bundle that must be stored, at most.
        serving_mib: memory of the release that serves during its start (blue-green); 0: none does.
        wanted_gpu: the only GPU that counts, if a person names one.
        served: how its memory was computed; None: its publisher did not say.
    """
    target = target_of(fit.match, fit.compute_capability, hardware, wanted_gpu)
    return (
        *_platform(fit, hardware),
        *_compute(fit, hardware, target, wanted_gpu),
        *_driver(fit, hardware),
        *_jetpack(fit, hardware),
        *_runtime(fit, hardware),
        *_memory(fit, hardware, target, serving_mib, served),
        *_disk(fit, free_disk_mib, bundle_size),
        *_power(fit, hardware),
    )


def disk_mib(fit: Fit, bundle_size: int) -> int:
    """Return the free disk space that a bundle of `bundle_size` bytes needs, in MiB."""
    return fit.free_disk_mib + -(-bundle_size // 2**20)


def check_serving(serving: ServingSettings, image: RunningImage | None) -> tuple[Refusal, ...]:
    """Return why this agent cannot serve the bundle; empty if it can. Pure.

    Args:
        serving: how the bundle is served.
        image: the container image the agent runs in; None if it runs in none.
    """
    if serving.environments:
        return ()
    wanted = serving.images.get("server")
    if wanted is None:
        what = "it has no environment and no container image to serve it"
        return (Refusal(what, "publish it again with serving.environment or serving.image"),)
    if not is_reference(wanted):
        what = f"its container image {wanted[:80]!r} is not a valid image reference"
        return (Refusal(what, "publish it again"),)
    if image is not None and image.is_the_image(wanted):
        return ()
    where = f"in {image}" if image is not None else "outside a container"
    what = f"it requires the container image {wanted}, and this agent runs {where}"
    return (Refusal(what, start_in(wanted)),)


def require(refusals: tuple[Refusal, ...], what: str) -> None:
    """Raise FitError with all refusals; do nothing if there are none."""
    if refusals:
        why = "; ".join(refusal.what for refusal in refusals)
        hint = "; ".join(dict.fromkeys(refusal.hint for refusal in refusals))
        raise FitError(f"{what} does not fit this device", why=why, hint=hint)


def _platform(fit: Fit, hardware: Hardware) -> Iterator[Refusal]:
    if fit.platform != hardware.platform:
        what = f"it is built for {fit.platform}, this is {hardware.platform}"
        yield Refusal(what, f"choose a profile for {hardware.platform} with --profile")


def _compute(
    fit: Fit, hardware: Hardware, target: ComputeTarget, wanted_gpu: str | None
) -> Iterator[Refusal]:
    needed = fit.compute_capability
    if needed is None or (target.gpu and target.gpu.compute_capability == needed):
        return
    what = f"its engine needs compute capability {needed}"
    if _not_known(hardware, target):
        yield Refusal(f"{what}, this machine's is not known now", _AGAIN, known=False)
        return
    pool = [gpu for gpu in hardware.gpus if named(gpu, wanted_gpu)]
    found = dict.fromkeys(gpu.compute_capability for gpu in pool if gpu.compute_capability)
    have = ", ".join(found) or "none that nvidia-smi reports"
    whose = "this machine" if wanted_gpu is None else f"GPU {wanted_gpu}"
    hint = "choose the profile of this GPU with --profile, or run nvidia-smi"
    yield Refusal(f"{what}, {whose} has {have}", hint)


def _not_known(hardware: Hardware, target: ComputeTarget) -> bool:
    """Whether the GPU may be there and cannot be asked now."""
    if target.gpu is None:
        return hardware.nvidia == "unknown" or not hardware.complete
    return target.gpu.compute_capability is None


def _driver(fit: Fit, hardware: Hardware) -> Iterator[Refusal]:
    if fit.driver_min is None:
        return
    if hardware.driver is None and hardware.nvidia != "absent":
        what = f"it needs NVIDIA driver {fit.driver_min} or newer, which is here is not known now"
        yield Refusal(what, _AGAIN, known=False)
    elif hardware.driver is None:
        what = f"it needs NVIDIA driver {fit.driver_min} or newer, nvidia-smi reports none"
        yield Refusal(what, "install the driver and check that nvidia-smi prints a table")
    elif _number(hardware.driver) < _number(fit.driver_min):
        what = f"it needs NVIDIA driver {fit.driver_min} or newer, this is {hardware.driver}"
        yield Refusal(what, f"install NVIDIA driver {fit.driver_min} or newer")


def _jetpack(fit: Fit, hardware: Hardware) -> Iterator[Refusal]:
    if not fit.jetpack or any(_of_release(hardware.jetpack, wanted) for wanted in fit.jetpack):
        return
    wanted = " or ".join(fit.jetpack)
    have = f"JetPack {hardware.jetpack}" if hardware.jetpack else "not a known JetPack release"
    l4t = f" (L4T {hardware.l4t})" if hardware.l4t else ""
    hint = f"flash JetPack {wanted}, or publish a bundle for this release"
    yield Refusal(f"it needs JetPack {wanted}, this is {have}{l4t}", hint)


def _runtime(fit: Fit, hardware: Hardware) -> Iterator[Refusal]:
    # A runtime the machine does not provide itself comes with the bundle's lock or image.
    for name, wanted in sorted(fit.runtime.items()):
        have = hardware.runtime.get(name)
        if have is not None and not _same_version(have, wanted):
            hint = f"compile the engine on this release, or install {name} {wanted}"
            yield Refusal(f"its engine is bound to {name} {wanted}, this is {have}", hint)


def _memory(
    fit: Fit,
    hardware: Hardware,
    target: ComputeTarget,
    serving_mib: int,
    served: ServedMemory | None,
) -> Iterator[Refusal]:
    if target.on == "card" and target.gpu is None:
        return  # refused for its compute capability
    have, whose = hardware.memory_of(target.gpu), _whose(target)
    if have is None:
        if target.on == "card":
            what = f"it needs {fit.memory_mib} MiB of memory, that of {target.gpu} is not known now"
            yield Refusal(what, _AGAIN, known=False)
        return
    # The system needs its part where it has the same memory.
    system = served.formula.system_mib if served and target.on != "card" else 0
    if have >= fit.memory_mib + system + serving_mib:
        return
    needs = f"{fit.memory_mib} MiB of memory"
    if system:
        needs = f"{needs} and {system} MiB for the system"
    if have < fit.memory_mib + system:
        what = f"it needs {needs}, {whose} has {have} MiB"
        hint = "choose a profile with a smaller model"
        yield Refusal(*_with_smaller(what, hint, served, have - system))
    else:
        needs = f"{needs} in addition to the {serving_mib} MiB in use"
        what = f"it is activated blue-green and needs {needs}, {whose} has {have} MiB"
        hint = "publish it with serving.activation: swap, which stops the active release first"
        yield Refusal(*_with_smaller(what, hint, served, have - system - serving_mib))


def _with_smaller(
    what: str, hint: str, served: ServedMemory | None, room_mib: int
) -> tuple[str, str]:
    """Return the reason and the hint with the largest batch and length that would fit.

    Args:
        what: the reason.
        hint: what to do besides.
        served: how its memory was computed; None: that is not known.
        room_mib: the most that a bundle may require on this machine.
    """
    if served is None:
        return what, hint
    required = f"requires.memory_mib {room_mib}"
    if served.total <= room_mib:
        said = f"its model is computed to take {served.total} MiB"
        return f"{what}; {said}", f"{hint}, or publish it with {required} or less"
    smaller = served.suggestion(room_mib + served.formula.system_mib)
    if not smaller:
        return f"{what}; no batch and length of its model fits", hint
    less = f"publish it with a smaller batch or length and {required}"
    return f"{what}; would fit: {smaller}", f"{hint}, or {less}"


def _whose(target: ComputeTarget) -> str:
    if target.on == "card" and target.gpu and not target.alone:
        return f"{target.gpu} ({target.gpu.uuid or target.gpu.index})"
    return "this machine"


def _disk(fit: Fit, free_disk_mib: int | None, bundle_size: int) -> Iterator[Refusal]:
    needed = disk_mib(fit, bundle_size)
    if free_disk_mib is not None and free_disk_mib < needed:
        have = f"{free_disk_mib} MiB are free, including what it replaces"
        what = f"it needs {needed} MiB of free disk space, {have}"
        yield Refusal(what, f"free {needed - free_disk_mib} MiB or move the state directory")


def _power(fit: Fit, hardware: Hardware) -> Iterator[Refusal]:
    if fit.power_mode is None or fit.power_mode in hardware.power_modes:
        return
    have = ", ".join(hardware.power_modes) or "none"
    what = f"it was measured in power mode {fit.power_mode}, /etc/nvpmodel.conf has {have}"
    yield Refusal(what, "publish a bundle for one of these modes")


def _number(version: str) -> tuple[int, ...]:
    """Parse `590.44.01` to (590, 44, 1): compared as numbers, 595.9 is older than 595.78."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _of_release(have: str | None, wanted: str) -> bool:
    """Whether a version belongs to a release, as 7.2.1 does to 7.2."""
    return have is not None and (have == wanted or have.startswith(f"{wanted}."))


def _same_version(have: str, wanted: str) -> bool:
    """Whether the common parts are equal: a library's file name lacks the 9 of 10.13.3.9."""
    pair = list(zip(_number(have), _number(wanted), strict=False))
    return all(left == right for left, right in pair)
