"""What `forge device …` calls: set a device up, run its agent, ask for its status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from forge.bundle import check_name
from forge.device import detection
from forge.device.agent import Agent, timestamp
from forge.device.asked import obey
from forge.device.descriptors import allow_many
from forge.device.door import Door
from forge.device.events import Happened, History, Tell
from forge.device.facts import Run, collect
from forge.device.hardware import parse
from forge.device.heat import HeatGuard
from forge.device.limit import Limit
from forge.device.live import Live
from forge.device.metrics import Metrics
from forge.device.operation import Operation
from forge.device.power_control import PowerControl
from forge.device.report import Detected, DeviceStatus, PowerStatus, read_agent
from forge.device.service import Service
from forge.device.signals import StopAskedError, no_signals, stop_on_signals
from forge.device.slots import MAX_MIRRORS, Home, Provisioned
from forge.device.updater import Updater
from forge.errors import ConfigurationError, ForgeError, UsageError
from forge.profiles import Power, Profile

__all__ = ["detect", "power", "provision", "run", "status"]

_MAX_ROOT_BYTES: Final = 512_000  # python-tuf's cap

Say = Callable[[str], None]


def detect(
    profiles: detection.Candidates,
    *,
    profile: str | None = None,
    root: Path = Path("/"),
    run: Run | None = None,
) -> Detected:
    """What this machine is and which of these profiles fits it.

    Args:
        profiles: platform and match by profile name (`detection.candidates` makes it).
        profile: a name given by hand; it wins.
        root: where /proc and /etc are.
        run: runs commands; the machine's own by default.

    Raises:
        UsageError: `profile` is none of these.
        FitError: nothing matches and there is no `development`.
    """
    hardware = parse(collect(root, run))
    return Detected.of(hardware, detection.match(hardware, profiles, profile))


def provision(  # noqa: PLR0913 - the options of one command
    state: Path,
    store_url: str,
    root_bytes: bytes,
    name: str,
    channel: str,
    profile: str | None = None,
    *,
    mirrors: Sequence[str] = (),
    limit_rate: int | None = None,
) -> Provisioned:
    """Write down where this device's updates come from; may be repeated to change it.

    Args:
        state: the state folder.
        store_url: folder, `file:`, `s3:` or `https:` URL of the store; need not be in reach now.
        root_bytes: TUF root metadata from a source that is trusted.
        name: bundle name.
        channel: channel of that bundle.
        profile: a profile named by hand; None: by the hardware.
        mirrors: other places of the same store, asked in this order where it fails.
        limit_rate: the most bytes a second that updates may take.

    Raises:
        UsageError: a bad name, too many mirrors, or an agent runs in this folder.
        ConfigurationError: `root_bytes` is no root metadata, `store_url` no store's, or the folder
            cannot be written.
    """
    from forge.store.location import open_objects

    if len(mirrors) > MAX_MIRRORS:
        raise UsageError(f"{len(mirrors)} mirrors are too many", hint=f"{MAX_MIRRORS} at most")
    open_objects(store_url, environment=os.environ, mirrors=mirrors)
    _check_root(root_bytes)
    device = Provisioned(
        schema_version=2,
        store_url=_place(store_url),
        mirrors=tuple(_place(one) for one in mirrors),
        limit_rate=limit_rate,
        name=check_name(name, "Bundle"),
        channel=check_name(channel, "Channel"),
        profile=check_name(profile, "Profile") if profile is not None else None,
    )
    home = Home(state)
    with home.locked():
        home.provision(device, root_bytes)
    return device


def _place(url: str) -> str:
    return url if "://" in url else str(Path(url).expanduser().absolute())


def status(state: Path) -> DeviceStatus:
    """The device as its journal and its agent tell it. Raises ConfigurationError."""
    home = Home(state)
    device, _ = home.provisioned()
    journal = home.journal()
    return DeviceStatus(
        store_url=device.store_url,
        mirrors=device.mirrors,
        name=device.name,
        channel=device.channel,
        state=journal.state,
        slot=journal.active,
        release=journal.active_release,
        candidate=journal.candidate,
        agent=read_agent(home),
        bad=journal.bad,
        held=journal.held,
        previous=journal.previous,
        rollbacks=journal.rollbacks,
    )


def power(
    state: Path,
    profiles: Mapping[str, Profile],
    *,
    profile: str | None = None,
    apply: bool = False,
    control: PowerControl | None = None,
) -> PowerStatus:
    """Which power is in force, which is wanted, and the commands between the two.

    Wanted is what the profile named by hand says, else the bundle of the active slot, else the
    profile of this hardware.

    Args:
        state: the state folder; need not be one.
        profiles: by name.
        profile: one of them.
        apply: run the commands; what went wrong is among the problems.
        control: of the machine's power; this machine's by default.

    Raises:
        UsageError: `profile` is none of these.
        FitError: nothing matches and there is no `development`.
        ConfigurationError: the state folder cannot be read.
    """
    hardware = parse(collect())
    wanted, by = None if profile else _active_power(Home(state)), "the bundle of the active slot"
    if wanted is None:
        found = detection.match(hardware, detection.candidates(profiles), profile)
        wanted, by = profiles[found.profile].power, f"profile {found.profile}"
    control = control or PowerControl(hardware.kind)
    report = control.apply(wanted) if apply else control.report(wanted)
    return PowerStatus(wanted_by=by, power=report)


def run(
    state: Path,
    *,
    once: bool = False,
    profile: str | None = None,
    door: Door | None = None,
    poll_s: float = 60.0,
    say: Say | None = None,
    events: Tell | None = None,
) -> None:
    """Be the device's agent until SIGTERM or SIGINT; with `once`, until the channel is installed.

    Args:
        state: a provisioned state folder.
        once: look once, install, probe, stop serving and return; opens no port.
        profile: a profile named by hand; wins over the provisioned one.
        door: where the gateway listens and whom it lets in; by default this machine only.
        poll_s: seconds between two looks at the channel (10 % jitter, so that a fleet spreads).
        say: gets one line per event; standard error by default.
        events: gets every event, as the history does.

    Raises:
        UsageError: another agent runs here, the port is taken, or strangers could ask.
        ConfigurationError: the folder is not set up or cannot be written; the API keys are wrong.
        RolledBackError, FitError, TrustError, StoreError: with `once` only; otherwise the agent
            says it, keeps serving what it has, and looks again.
    """
    home, speak, door = Home(state), say or _say, door or Door()
    keys = None if once else door.keys(speak)
    allow_many()
    with home.locked(), stop_on_signals():
        device, root_bytes = _settings(home)
        home.clean()
        hardware = parse(collect())
        guard = HeatGuard(Limit(), hardware.kind)
        operation = Operation(home, PowerControl(hardware.kind), guard, speak)
        live = Live()
        updater = Updater(home, device, root_bytes, hardware, profile)
        # An engine compiled here is bound to the libraries and to the release of the board.
        runtime = hardware.runtime | ({"l4t": hardware.l4t} if hardware.l4t else {})
        metrics = Metrics()
        tell = _telling(home, metrics, events, speak)
        agent = Agent(home, updater, live, speak, runtime=runtime, serves=not once, tell=tell)
        try:
            agent.handover.enter = operation.enter
            if once:
                agent.start()
                if not obey(home, agent):
                    agent.update()
            else:
                service = Service(home, agent, live, operation, hardware, speak, metrics)
                service.run(door, keys, poll_s)
        except StopAskedError:
            speak("stopping")
        finally:
            with no_signals():
                agent.stop()


def _settings(home: Home) -> tuple[Provisioned | ForgeError, bytes]:
    """What `provision` wrote, or why it cannot be had of a device that can serve all the same."""
    try:
        return home.provisioned()
    except ForgeError as error:
        if home.journal().active is None:
            raise
        return error, b""


def _active_power(home: Home) -> Power | None:
    try:
        active = home.journal().active
        manifest = home.manifest(active) if active else None
    except (OSError, ConfigurationError) as error:
        message = f"The state folder {home.path} cannot be read"
        hint = "be root, or name a profile with --profile"
        raise ConfigurationError(message, why=str(error), hint=hint) from None
    return manifest.operating.power if manifest and manifest.operating else None


def _telling(home: Home, metrics: Metrics, events: Tell | None, say: Say) -> Tell:
    """Tells an event to everybody; a disk or pipe that fails must not end what serves."""
    history = History(home.path)

    def tell(happened: Happened) -> None:
        for listener in (metrics.tell, history.append, *([events] if events else [])):
            try:
                listener(happened)
            except OSError as error:
                say(f"the event {happened.event!r} could not be written: {error}")

    return tell


def _check_root(data: bytes) -> None:
    try:
        document: Mapping[str, Mapping[str, str]] = json.loads(data[: _MAX_ROOT_BYTES + 1])
        kind = document["signed"]["_type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = ""
    if kind != "root":
        message = "The trusted root is no TUF root metadata"
        hint = "give the root.json that 'forge keys init' wrote, from a source you trust"
        raise ConfigurationError(message, hint=hint)


def _say(text: str) -> None:
    sys.stderr.write(f"{timestamp(datetime.now(UTC))} {text}\n")
    sys.stderr.flush()
