"""What a device says about itself, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

import forge
from forge import canonical
from forge.device.detection import Detection
from forge.device.hardware import Hardware
from forge.device.heat import HeatReport
from forge.device.journal import Journal, Release, SlotName, State, Verdict
from forge.device.live import Serving
from forge.device.power import PowerReport
from forge.device.slots import Home
from forge.files import write_durably
from forge.store.mirrors import Standing

if TYPE_CHECKING:
    from forge.device.updater import Offer

__all__ = [
    "AgentReport",
    "Detected",
    "DeviceStatus",
    "FitReport",
    "HardwareReport",
    "Look",
    "PowerStatus",
    "read_agent",
    "write_agent",
]

_MAX_BYTES = 1024 * 1024


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Detected(_Model):
    """The machine and the profile chosen for it."""

    hardware: Hardware
    profile: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, hardware: Hardware, found: Detection) -> Detected:
        """Put both together."""
        return cls(
            hardware=hardware,
            profile=found.profile,
            reasons=found.reasons,
            warnings=found.warnings,
        )


class Look(_Model):
    """What the last look at the channel brought, and what it was read from.

    `places` are the store and its mirrors as they did up to the last look or pull; empty without
    mirrors.
    """

    at: str
    offered: Release | None = None
    profile: str | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fits: bool | None = None
    refusals: tuple[str, ...] = ()
    error: str | None = None
    fetched_bytes: int = 0
    reused_bytes: int = 0
    places: tuple[Standing, ...] = ()

    @classmethod
    def of(cls, offer: Offer, at: str) -> Look:
        """What the channel offers."""
        return cls(
            at=at,
            offered=offer.release,
            profile=offer.detection.profile,
            reasons=offer.detection.reasons,
            warnings=offer.detection.warnings,
            fits=not offer.refusals,
            refusals=tuple(map(str, offer.refusals)),
        )


class AgentReport(_Model):
    """The running agent."""

    pid: int
    url: str | None
    started: str
    hardware: Hardware
    look: Look | None


class FitReport(_Model):
    """Whether what the channel offers may run here."""

    release: Release | None
    fits: bool | None
    refusals: tuple[str, ...]


class HardwareReport(_Model):
    """The document of /v1/hardware."""

    hardware: Hardware
    profile: str | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    fit: FitReport
    versions: dict[str, str]
    slot: SlotName | None
    state: State
    release: Release | None
    power: PowerReport
    heat: HeatReport

    @classmethod
    def of(
        cls,
        hardware: Hardware,
        journal: Journal,
        look: Look | None,
        serving: Serving | None,
        condition: tuple[PowerReport, HeatReport],
    ) -> HardwareReport:
        """Put together what the agent knows now."""
        look = look or Look(at="")
        versions = {"forge": forge.__version__}
        if serving:
            versions |= {"bundle": serving.release.version, "triton": serving.triton}
            versions |= serving.runtime
        active = journal.active_release
        return cls(
            hardware=hardware,
            profile=look.profile or (active.profile if active else None),
            reasons=look.reasons,
            warnings=look.warnings or hardware.notes,
            fit=FitReport(release=look.offered, fits=look.fits, refusals=look.refusals),
            versions=versions,
            slot=journal.active,
            state=journal.state,
            release=active,
            power=condition[0],
            heat=condition[1],
        )


class PowerStatus(_Model):
    """Power, and who wants it so."""

    wanted_by: str
    power: PowerReport


class DeviceStatus(_Model):
    """The whole device, running or not."""

    store_url: str
    mirrors: tuple[str, ...] = ()
    name: str
    channel: str
    state: State
    slot: SlotName | None
    release: Release | None
    candidate: Release | None
    agent: AgentReport | None
    bad: tuple[Verdict, ...]
    held: Verdict | None
    previous: Release | None
    rollbacks: tuple[Verdict, ...]

    @property
    def look(self) -> Look | None:
        """What the running agent saw last."""
        return self.agent.look if self.agent else None


def write_agent(home: Home, report: AgentReport) -> None:
    """Leave the report for `forge device status`. Raises OSError."""
    write_durably(home.path / "agent.json", canonical.dumps(report.model_dump(mode="json")))


def read_agent(home: Home) -> AgentReport | None:
    """The report of the agent that runs now, None if none does."""
    holder = home.holder()
    if holder is None:
        return None
    try:
        with (home.path / "agent.json").open("rb") as file:
            report = AgentReport.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return None
    return report if report.pid == holder else None
