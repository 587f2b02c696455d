"""Apply the power and thermal settings of a slot's bundle, as its signed manifest says."""

from __future__ import annotations

import logging

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
    """

    def __init__(
        self, home: StateDirectory, control: PowerControl, monitor: ThermalMonitor
    ) -> None:
        self.monitor = monitor
        self._home = home
        self._control = control
        self._wanted: PowerSection | None = None
        self._power = control.report(None)

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
        self._power = self._control.apply(self._wanted)
        for problem in self._power.problems:
            _log.warning("power: %s", problem)
        self.monitor.govern(operating.thermal if operating else None, most)

    def refresh(self) -> None:
        """Read what power is in force now: it may have been changed by hand."""
        now = self._control.report(self._wanted, unreadable=False)
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
