"""Status documents of a device, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

import forge
from forge import canonical
from forge.accuracy.receipt import Receipt
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.profile_match import Detection
from forge.device.power.plan import PowerReport
from forge.device.shared.release import Release, SlotName
from forge.device.shared.upstream import ActiveServer
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import SlotReading
from forge.device.state_machine.journal import (
    FailedRelease,
    InterruptedRelease,
    Journal,
    UpdateState,
)
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.fetch_progress import FetchProgress
from forge.device.telemetry.freshness import Freshness
from forge.device.thermal.monitor import ThermalReport
from forge.files import write_durably
from forge.serving.triton.containment import Containment
from forge.store.backends.mirrors import Standing

if TYPE_CHECKING:
    from forge.device.update.updater import Offer

__all__ = [
    "AccuracyStatus",
    "AgentActivity",
    "AgentReport",
    "ChannelCheck",
    "Detected",
    "DeviceStatus",
    "FitReport",
    "HardwareReport",
    "PowerStatus",
    "ServerStarting",
    "read_agent",
    "read_once",
    "write_agent",
    "write_once",
]

_MAX_BYTES = 1024 * 1024
_ONCE = "last-once.json"


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
        """Combine both."""
        return cls(
            hardware=hardware,
            profile=found.profile,
            reasons=found.reasons,
            warnings=found.warnings,
        )


class ChannelCheck(_Model):
    """Result of the last check of the channel.

    `unfit` says why what serves does not fit this machine any more, and what has changed.
    `places` is the state of the store and its mirrors up to the last check or pull; empty without
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
    unfit: str = ""

    @classmethod
    def of(cls, offer: Offer, at: str) -> ChannelCheck:
        """Return the result for an offer of the channel."""
        return cls(
            at=at,
            offered=offer.release,
            profile=offer.detection.profile,
            reasons=offer.detection.reasons,
            warnings=offer.detection.warnings,
            fits=not offer.refusals,
            refusals=tuple(map(str, offer.refusals)),
        )


class ServerStarting(_Model):
    """The start of a slot's Triton that is under way: for how long, and the limit; seconds."""

    slot: SlotName
    seconds: float
    limit_s: float


class AgentActivity(_Model):
    """What the agent does now.

    Attributes:
        serving: the slot that gets requests.
        refuses: why none does.
        fetch: the download under way.
        start: the start of a server under way.
    """

    serving: SlotName | None = None
    refuses: str = ""
    fetch: FetchProgress | None = None
    start: ServerStarting | None = None

    def without_figures(self) -> AgentActivity:
        """Return the activity without what changes all the time."""
        fetch, start = self.fetch, self.start
        if fetch:
            fetch = fetch.model_copy(update={"done_bytes": 0, "bytes_per_s": 0.0, "left_s": None})
        if start:
            start = start.model_copy(update={"seconds": 0.0})
        return self.model_copy(update={"fetch": fetch, "start": start})


class AgentReport(_Model):
    """The running agent; `containment`: of the model server, None from an earlier version."""

    pid: int
    url: str | None
    started: str
    hardware: Hardware
    look: ChannelCheck | None
    activity: AgentActivity = AgentActivity()
    containment: Containment | None = None

    def without_figures(self) -> AgentReport:
        """Return the report without what changes all the time."""
        return self.model_copy(update={"activity": self.activity.without_figures()})


class FitReport(_Model):
    """Whether what the channel offers may run here."""

    release: Release | None
    fits: bool | None
    refusals: tuple[str, ...]


class AccuracyStatus(_Model):
    """How near the engine that serves is to its checkpoint: the worst figures of its receipt."""

    precision: str
    executed: str
    kl_mean: float | None
    same_top: float | None
    perplexity_ratio: float | None

    @classmethod
    def of(cls, receipt: Receipt) -> AccuracyStatus:
        """Return what /v1/hardware shows of a receipt."""
        worst = receipt.worst().model_dump()
        return cls(precision=receipt.precision, executed=receipt.executed, **worst)


class HardwareReport(_Model):
    """The document of /v1/hardware."""

    hardware: Hardware
    profile: str | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    fit: FitReport
    versions: dict[str, str]
    accuracy: AccuracyStatus | None = None
    slot: SlotName | None
    state: UpdateState
    release: Release | None
    power: PowerReport
    heat: ThermalReport

    @classmethod
    def of(
        cls,
        hardware: Hardware,
        journal: Journal,
        look: ChannelCheck | None,
        serving: ActiveServer | None,
        condition: tuple[PowerReport, ThermalReport],
    ) -> HardwareReport:
        """Combine what the agent knows now."""
        look = look or ChannelCheck(at="")
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
            accuracy=AccuracyStatus.of(serving.accuracy) if serving and serving.accuracy else None,
            slot=journal.active,
            state=journal.state,
            release=active,
            power=condition[0],
            heat=condition[1],
        )


class PowerStatus(_Model):
    """Power settings, and what requests them."""

    wanted_by: str
    power: PowerReport


class DeviceStatus(_Model):
    """Status of the whole device, running or not.

    `uptime_s`: seconds since the agent started, None if none runs. `offline_s`: seconds for which
    every check of the channel has failed. `weights`: what was found when all files were last read.
    """

    store_url: str
    mirrors: tuple[str, ...] = ()
    name: str
    channel: str
    state: UpdateState
    slot: SlotName | None
    release: Release | None
    candidate: Release | None
    agent: AgentReport | None
    bad: tuple[FailedRelease, ...]
    held: FailedRelease | None
    previous: Release | None
    rollbacks: tuple[FailedRelease, ...]
    last_once: ChannelCheck | None = None
    interrupted: InterruptedRelease | None = None
    contact: StoreContact = StoreContact()
    freshness: Freshness = Freshness(state="unknown")
    uptime_s: float | None = None
    offline_s: float = 0.0
    weights: dict[SlotName, SlotReading] = {}

    @property
    def look(self) -> ChannelCheck | None:
        """Return the last check of the running agent, else of the last `run --once`."""
        return self.agent.look if self.agent else self.last_once


def write_agent(home: StateDirectory, report: AgentReport) -> None:
    """Write the report that `forge device status` reads. Raises OSError."""
    write_durably(home.path / "agent.json", canonical.dumps(report.model_dump(mode="json")))


def write_once(home: StateDirectory, check: ChannelCheck) -> None:
    """Write what `forge device run --once` found, for `forge device status`. Raises OSError."""
    write_durably(home.path / _ONCE, canonical.dumps(check.model_dump(mode="json")))


def read_once(home: StateDirectory) -> ChannelCheck | None:
    """Return what the last `forge device run --once` found; None without one."""
    try:
        with (home.path / _ONCE).open("rb") as file:
            return ChannelCheck.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return None


def read_agent(home: StateDirectory) -> AgentReport | None:
    """Return the report of the running agent, None if none runs."""
    holder = home.holder()
    if holder is None:
        return None
    try:
        with (home.path / "agent.json").open("rb") as file:
            report = AgentReport.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return None
    return report if report.pid == holder else None
