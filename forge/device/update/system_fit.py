"""Whether a release in a slot still fits this machine, and what has changed since it served.

An engine that no longer fits after an upgrade of the driver, of L4T or of TensorRT is not a fault
of its release: it served before, and serves again when the machine is changed back.
"""

from __future__ import annotations

from dataclasses import dataclass

from forge.bundle import Manifest
from forge.device.hardware import fit
from forge.device.hardware.fit import Refusal
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.system_versions import SystemVersions, differences
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import SLOTS, Release
from forge.device.state.directory import StateDirectory
from forge.device.state.served_on import ServedOn

__all__ = ["SystemFit", "Unfit", "because"]


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why an installed release may not run on this machine any more.

    Attributes:
        refusals: of its manifest.
        changes: of the system since it served last here, a phrase each.
    """

    refusals: tuple[Refusal, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """Why it does not fit, if that is known; a driver that does not answer is not told here."""
        return str(self) if self.certain or self.changes else ""

    @property
    def certain(self) -> bool:
        """Whether a requirement is known not to hold: not only what is not known now."""
        return any(refusal.known for refusal in self.refusals)

    def __str__(self) -> str:
        parts = []
        if self.refusals:
            parts.append("; ".join(refusal.what for refusal in self.refusals))
        if self.changes:
            parts.append(f"changed since it served: {', '.join(self.changes)}")
        return "; ".join(parts)


class SystemFit:
    """The machine as the releases in the slots need it; safe between threads.

    Args:
        home: the state directory.
        watch: says what this machine is.
        gpu: the only GPU that counts, if a person names one.
    """

    def __init__(self, home: StateDirectory, watch: HardwareWatch, gpu: str | None = None) -> None:
        self._home = home
        self._watch = watch
        self.gpu = gpu
        self._served = ServedOn(home.path)

    def explain(self, release: Release | None) -> str:
        """Ask the machine, and return why a release fails that is not at fault; "" if nothing."""
        return str(self.check(release, self._watch.look())) if release else ""

    def check(self, release: Release, hardware: Hardware) -> Unfit:
        """Hold what a release in a slot needs against the machine; not against its free disk."""
        manifest = self._manifest(release)
        refusals = fit.check(manifest.fit, hardware, None, 0, 0, self.gpu) if manifest else ()
        before = self._served.read(release)
        changes = differences(before, SystemVersions.of(hardware)) if before else ()
        return Unfit(refusals, changes)

    def serves(self, release: Release) -> None:
        """Note that a release serves on the machine as it is.

        One that serves although it does not fit is not noted, so that the change is still told.
        """
        hardware = self._watch.current()
        if not self.check(release, hardware).certain:
            self._served.note(release, SystemVersions.of(hardware))

    def _manifest(self, release: Release) -> Manifest | None:
        """Return the manifest of a release in a slot; None also while the disk fails."""
        try:
            manifests = [self._home.slots.manifest(slot) for slot in SLOTS]
        except OSError:
            return None
        return next((one for one in manifests if one and Release.of(one) == release), None)


def because(unfit: str) -> str:
    """Return what a failure's reason ends with."""
    return f" (not the release's fault: {unfit})" if unfit else ""
