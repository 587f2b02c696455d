"""Implement `forge device detect`, `provision`, `status` and `power`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from forge.bundle import Manifest, check_name
from forge.device.hardware import profile_match
from forge.device.hardware.compute_target import idle_target, target_of
from forge.device.hardware.facts import Run, collect
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.profile_match import ProfileRequest
from forge.device.power.control import PowerControl
from forge.device.shared.times import lasted_s
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import (
    GPU_PATTERN,
    MAX_MIRRORS,
    DeviceSettings,
    place,
    read_settings,
    write_settings,
)
from forge.device.state.weights_record import read_record
from forge.device.telemetry.contact import read_contact
from forge.device.telemetry.freshness import freshness
from forge.device.telemetry.status import (
    ChannelCheck,
    Detected,
    DeviceStatus,
    PowerStatus,
    read_agent,
    read_once,
)
from forge.errors import ConfigurationError, FitError, UsageError
from forge.profiles import PowerSection, Profile

__all__ = ["check_gpu", "check_root", "detect", "inspect", "power", "provision", "status"]

_MAX_ROOT_BYTES: Final = 512_000  # python-tuf's cap


def detect(
    profiles: profile_match.Candidates,
    *,
    profile: str | None = None,
    gpu: str | None = None,
    hardware: Hardware | None = None,
    root: Path = Path("/"),
    run: Run | None = None,
) -> Detected:
    """Return what this machine is and which of these profiles matches it.

    Args:
        profiles: platform and match by profile name (`profile_match.candidates` makes it).
        profile: a name given by hand; it overrides the hardware.
        gpu: the only GPU that counts: its UUID or its number in nvidia-smi.
        hardware: of the machine; this machine's by default, read by `root` and `run`.
        root: where /proc and /etc are.
        run: runs commands; the machine's own by default.

    Raises:
        UsageError: `profile` is not one of these, or `gpu` is not in this machine.
        FitError: nothing matches, several do, or it is not known now which one does.
    """
    hardware = hardware or inspect(root, run)
    found = profile_match.match(hardware, profiles, ProfileRequest(profile=profile, gpu=gpu))
    return Detected.of(hardware, found)


def inspect(root: Path = Path("/"), run: Run | None = None) -> Hardware:
    """Return what this machine is, as `detect` sees it."""
    return parse(collect(root, run))


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
    gpu: str | None = None,
) -> DeviceSettings:
    """Set where this device's updates come from; may be repeated to change it.

    Args:
        state: the state directory.
        store_url: folder, `file:`, `s3:` or `https:` URL of the store, reachable now or not.
        root_bytes: TUF root metadata from a source that is trusted.
        name: bundle name.
        channel: channel of that bundle.
        profile: a profile named by hand; None: by the hardware.
        mirrors: other URLs of the same store, tried in this order where it fails.
        limit_rate: limit of the download rate of updates, bytes a second.
        gpu: the only GPU that counts: its UUID or its number in nvidia-smi; None: by the hardware.

    Raises:
        UsageError: a name is not valid, too many mirrors, or an agent runs in this folder.
        ConfigurationError: `root_bytes` is not root metadata, `store_url` is not a store's, or the
            folder cannot be written.
    """
    from forge.store.backends.open import open_objects

    if len(mirrors) > MAX_MIRRORS:
        raise UsageError(f"{len(mirrors)} mirrors are too many", hint=f"{MAX_MIRRORS} at most")
    open_objects(store_url, environment=os.environ, mirrors=mirrors)
    check_root(root_bytes)
    settings = DeviceSettings(
        schema_version=2,
        store_url=place(store_url),
        mirrors=tuple(place(one) for one in mirrors),
        limit_rate=limit_rate,
        name=check_name(name, "Bundle"),
        channel=check_name(channel, "Channel"),
        profile=check_name(profile, "Profile") if profile is not None else None,
        gpu=check_gpu(gpu),
    )
    home = StateDirectory(state)
    with home.locked():
        write_settings(home.path, settings, root_bytes)
    return settings


def check_gpu(value: str | None) -> str | None:
    """Return how a person names a GPU, or raise UsageError."""
    if value is None or re.fullmatch(GPU_PATTERN, value):
        return value
    hint = "give its UUID, as nvidia-smi -L prints it, or its number there"
    raise UsageError(f"GPU {value!r} is not a valid name", hint=hint)


def status(state: Path, *, now: datetime | None = None) -> DeviceStatus:
    """Return the status that journal and agent report. Raises ConfigurationError."""
    home = StateDirectory(state)
    settings, _ = read_settings(home.path)
    journal, agent, once = home.journal(), read_agent(home), read_once(home)
    contact, look = read_contact(home.path), agent.look if agent else once
    at = (now or datetime.now(UTC)).isoformat()
    return DeviceStatus(
        store_url=settings.store_url,
        mirrors=settings.mirrors,
        name=settings.name,
        channel=settings.channel,
        state=journal.state,
        slot=journal.active,
        release=journal.active_release,
        candidate=journal.candidate,
        agent=agent,
        bad=journal.bad,
        held=journal.held,
        interrupted=journal.interrupted,
        previous=journal.previous,
        rollbacks=journal.rollbacks,
        last_once=once,
        contact=contact,
        freshness=freshness(journal, contact, _problem(look), now=at),
        uptime_s=lasted_s(agent.started, at) if agent else None,
        offline_s=contact.offline_s(at),
        weights={
            slot: reading
            for slot, reading in read_record(home.path).slots.items()
            if reading.release == journal.slots.get(slot)
        },
    )


def _problem(look: ChannelCheck | None) -> str:
    """Return why the last check did not lead to an installation; "" if nothing is known."""
    if look is None:
        return ""
    if look.refusals:
        return f"it does not fit: {look.refusals[0]}"
    return look.error or ""


def power(
    state: Path,
    profiles: Mapping[str, Profile],
    *,
    profile: str | None = None,
    gpu: str | None = None,
    apply: bool = False,
    control: PowerControl | None = None,
    hardware: Hardware | None = None,
) -> PowerStatus:
    """Return which power is in force, which is wanted, and the commands between the two.

    Wanted is what the profile named by hand says, else the bundle of the active slot, else the
    profile of this hardware.

    Args:
        state: the state folder; need not be one.
        profiles: by name.
        profile: one of them.
        gpu: the only GPU that counts: its UUID or its number in nvidia-smi.
        apply: run the commands; what went wrong is among the problems.
        control: of the machine's power; this machine's by default.
        hardware: of the machine; this machine's by default.

    Raises:
        UsageError: `profile` is not one of these.
        FitError: with `apply`, no profile matches, several do, or that is not known now.
        ConfigurationError: the state folder cannot be read.
    """
    hardware, control = hardware or parse(collect()), control or PowerControl()
    manifest = None if profile else _active(StateDirectory(state))
    wanted: PowerSection | None
    if manifest and manifest.operating:
        fit = manifest.fit
        wanted, by = manifest.operating.power, "the bundle of the active slot"
        target = target_of(fit.match, fit.compute_capability, hardware, gpu)
    else:
        try:
            request = ProfileRequest(profile=profile, gpu=gpu)
            found = profile_match.match(hardware, profile_match.candidates(profiles), request)
        except FitError:
            if apply:
                raise
            report = control.report(None, idle_target(hardware))
            return PowerStatus(wanted_by="nothing: no profile matches", power=report)
        chosen, own = profiles[found.profile], profiles[found.profile].hardware
        wanted, by = chosen.power, f"profile {found.profile}"
        target = target_of(own.match, own.compute_capability, hardware, gpu)
    report = control.apply(wanted, target) if apply else control.report(wanted, target)
    return PowerStatus(wanted_by=by, power=report)


def _active(home: StateDirectory) -> Manifest | None:
    try:
        active = home.journal().active
        return home.slots.manifest(active) if active else None
    except (OSError, ConfigurationError) as error:
        message = f"The state folder {home.path} cannot be read"
        hint = "run as root, or name a profile with --profile"
        raise ConfigurationError(message, why=str(error), hint=hint) from None


def check_root(data: bytes) -> bytes:
    """Return root metadata. Raises ConfigurationError if it is something else."""
    try:
        document: Mapping[str, Mapping[str, str]] = json.loads(data[: _MAX_ROOT_BYTES + 1])
        kind = document["signed"]["_type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = ""
    if kind != "root":
        message = "The trusted root is not TUF root metadata"
        hint = "give the root.json that 'forge keys init' wrote, over a channel you trust"
        raise ConfigurationError(message, hint=hint)
    return data
