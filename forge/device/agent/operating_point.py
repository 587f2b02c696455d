"""Apply the power and thermal settings of a slot's bundle to what it computes on."""

from __future__ import annotations

import logging

from forge.device.hardware.compute_target import CPU, ComputeTarget, idle_target, target_of
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.watch import HardwareWatch
from forge.device.power.control import PowerControl
from forge.device.power.plan import PowerReport
from forge.device.shared.release import SlotName
from forge.device.state.directory import StateDirectory
from forge.device.thermal.monitor import ThermalMonitor, ThermalReport
from forge.profiles import PowerSection

__all__ = ["OperatingPoint"]

_log = logging.getLogger(__name__)


class OperatingPoint:
    """Power and heat of one device.

    Args:
        home: the state directory.
        control: sets the machine's power.
        monitor: limits the load by temperature.
        watch: says what this machine is.
        gpu: the only GPU that counts, if a person names one.
    """

    def __init__(
        self,
        home: StateDirectory,
        control: PowerControl,
        monitor: ThermalMonitor,
        watch: HardwareWatch,
        gpu: str | None = None,
    ) -> None:
        self.monitor = monitor
        self._home = home
        self._control = control
        self.watch = watch
        self._gpu = gpu
        self._targets: dict[SlotName, ComputeTarget] = {}
        self._target = idle_target(watch.current())
        self._wanted: PowerSection | None = None
        self._power = control.report(None, self._target)

    def environment(self, slot: SlotName) -> dict[str, str]:
        """Return the variables by which the server of a slot sees its one GPU."""
        return self.target(slot).environment

    def target(self, slot: SlotName) -> ComputeTarget:
        """Return what the bundle in a slot computes on, and ask the machine again.

        A GPU that nvidia-smi does not list at this moment is still the one that it was.
        """
        manifest = self._home.slots.manifest(slot)
        if manifest is None:
            return CPU
        hardware, fit = self.watch.look(), manifest.fit
        found = target_of(fit.match, fit.compute_capability, hardware, self._gpu)
        before = self._targets.get(slot)
        if (
            found.gpu is None
            and found.on != "cpu"
            and before
            and before.gpu
            and not _sure(hardware)
        ):
            return before
        self._targets[slot] = found
        return found

    def configure(self, slot: SlotName) -> None:
        """Apply the settings of the bundle in a slot, before it is started.

        Power settings that cannot be applied are logged and reported: a device that serves more
        slowly than it should is better than one that does not serve.

        Raises:
            ConfigurationError: the bundle's serving.json is wrong.
        """
        from forge.serving.repository.spec import read_spec

        manifest = self._home.slots.manifest(slot)
        operating = manifest.operating if manifest else None
        most = read_spec(self._home.slots.tree(slot)).max_batch_size
        self._wanted = operating.power if operating else None
        self._target = self.target(slot)
        self._power = self._control.apply(self._wanted, self._target)
        for problem in self._power.problems:
            _log.warning("power: %s", problem)
        self.monitor.govern(operating.thermal if operating else None, most, self._target)

    def refresh(self) -> None:
        """Read what power is in force now: it may have been changed by hand."""
        now = self._control.report(self._wanted, self._target, unreadable=False)
        if now.commands:  # then what went wrong when they were tried still matters
            problems = tuple(dict.fromkeys((*self._power.problems, *now.problems)))
            now = now.model_copy(update={"problems": problems})
        self._power = now

    def power(self) -> PowerReport:
        """Power as it was last read."""
        return self._power

    def heat(self) -> ThermalReport:
        """Heat and load now."""
        return self.monitor.report()


def _sure(hardware: Hardware) -> bool:
    """Whether nvidia-smi listed every GPU that is here."""
    return hardware.nvidia != "unknown" and hardware.complete
