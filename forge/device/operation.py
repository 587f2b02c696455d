"""Under which power and heat a slot's bundle is served, as its signed manifest says."""

from __future__ import annotations

from collections.abc import Callable

from forge.device.heat import HeatGuard, HeatReport
from forge.device.journal import SlotName
from forge.device.power import PowerReport
from forge.device.power_control import PowerControl
from forge.device.slots import Home
from forge.profiles import Power

__all__ = ["Operation"]


class Operation:
    """Power and heat of one device.

    Args:
        home: the state folder.
        control: sets the machine's power.
        guard: governs the load.
        say: gets one line for each setting that cannot be had.
    """

    def __init__(
        self, home: Home, control: PowerControl, guard: HeatGuard, say: Callable[[str], None]
    ) -> None:
        self.guard = guard
        self._home = home
        self._control = control
        self._say = say
        self._wanted: Power | None = None
        self._power = control.report(None)

    def enter(self, slot: SlotName) -> None:
        """Make ready for the bundle in a slot, before it is started.

        Power that cannot be had is said and reported: a device that serves more slowly than it
        should is better than one that does not serve.

        Raises:
            ConfigurationError: the bundle's serving.json is wrong.
        """
        from forge.serving.spec import read_spec

        manifest = self._home.manifest(slot)
        operating = manifest.operating if manifest else None
        most = read_spec(self._home.tree(slot)).max_batch_size
        self._wanted = operating.power if operating else None
        self._power = self._control.apply(self._wanted)
        for problem in self._power.problems:
            self._say(f"power: {problem}")
        self.guard.govern(operating.thermal if operating else None, most)

    def refresh(self) -> None:
        """See what power is in force now: somebody may have changed it by hand."""
        now = self._control.report(self._wanted, unreadable=False)
        if now.commands:  # then what went wrong when they were tried still matters
            problems = tuple(dict.fromkeys((*self._power.problems, *now.problems)))
            now = now.model_copy(update={"problems": problems})
        self._power = now

    def power(self) -> PowerReport:
        """Power as it was last seen."""
        return self._power

    def heat(self) -> HeatReport:
        """Heat and load now."""
        return self.guard.report()
