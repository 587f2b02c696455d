"""What a device's folder must be after any fault, and what it must come to afterwards."""

from __future__ import annotations

import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from forge import device
from forge.device.shared.release import Release, SlotName
from forge.device.state import integrity
from forge.device.state.directory import StateDirectory
from forge.device.state_machine.journal import Journal
from forge.errors import RolledBackError
from tests.support.device_world import Agent, Device, World, triton_processes

__all__ = [
    "Setup", "check_journal", "check_no_server", "check_slot", "forge_device", "listing",
    "retried", "serves", "version",
]  # fmt: skip

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Setup:
    """One device before a fault.

    Attributes:
        world: its publisher.
        template: a state folder to copy.
        channel: that it follows.
    """

    world: World
    template: Path
    channel: str = "stable"

    def copy(self, folder: Path) -> Device:
        """The same device below `folder`, its store behind a link that can be taken away."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.template, folder / "state", symlinks=True)
        (folder / "store").symlink_to(self.world.store_url)
        self.follow(Device(folder / "state"), self.channel)
        return Device(folder / "state")

    def follow(self, one: Device, channel: str) -> None:
        """Be provisioned for a channel."""
        store = str(one.state.parent / "store")
        device.provision(one.state, store, self.world.root, "llm", channel)


def forge_device(*arguments: str, state: Path) -> list[str]:
    """The real command line."""
    return [sys.executable, "-m", "forge", "device", *arguments, "--state", str(state)]


def check_no_server(one: Device) -> None:
    """The kernel has ended everything that the agent had started."""
    until = time.monotonic() + 30
    while triton_processes(one.state) and time.monotonic() < until:
        time.sleep(0.02)
    assert triton_processes(one.state) == []


def check_journal(one: Device, *, whole: bool = True) -> Journal:
    """Readable as it is, without being made anew, and true: the active slot holds what it says.

    `whole`: and every byte of it is right.
    """
    path = one.state / "state.json"
    if not path.exists():
        return Journal()
    journal = Journal.model_validate_json(path.read_bytes())
    if journal.active is not None and whole:
        assert journal.active_release is not None
        damages = integrity.by_digest(one.home, journal.active, journal.active_release)
        assert damages == (), f"the journal's active slot: {damages[0]}"
    return journal


def check_slot(one: Device, allowed: frozenset[str | None]) -> None:
    """`current` leads to a slot that is whole, byte by byte, with one of these versions."""
    slot = one.home.current()
    if slot is None:
        assert None in allowed, "no slot is current"
        return
    manifest = one.home.slots.manifest(slot)
    assert manifest is not None, f"slot {slot} has no manifest"
    assert manifest.version in allowed, f"slot {slot} has {manifest.version}"
    damages = integrity.by_digest(one.home, slot, Release.of(manifest))
    assert damages == (), f"the current slot: {damages[0]}"


def version(one: Device) -> str | None:
    """Version of the current slot."""
    slot: SlotName | None = one.home.current()
    manifest = one.home.slots.manifest(slot) if slot else None
    return manifest.version if manifest else None


def retried(one: Device) -> str:
    """One more run of the agent; why it went back, if it did."""
    try:
        one.once()
    except RolledBackError as error:
        return str(error)
    return ""


def serves(one: Device, allowed: frozenset[str | None], words: dict[str, str]) -> str | None:
    """Without a store, the agent serves one of these versions now, and it says its words.

    A swap that the fault interrupted may go on meanwhile, and refuses until it is done.
    """
    store = one.state.parent / "store"
    target = store.readlink()
    store.unlink()
    try:
        if version(one) is None:
            return None
        with one.running(poll_s=600) as agent:
            until = time.monotonic() + 60
            while (said := _answer(agent)) is None and time.monotonic() < until:
                time.sleep(0.05)
            found = {text: name for name, text in words.items()}.get(said or "")
            assert found in allowed, f"{said!r}; {agent.log.read_text()}"
        return found
    finally:
        store.symlink_to(target)


def _answer(agent: Agent) -> str | None:
    """What it says, None while it is not ready."""
    try:
        return agent.ask() if agent.ready() else None
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return None
        raise


def listing(state: Path) -> set[str]:
    """Every file below a state folder, without its own random or content-derived names."""
    home = StateDirectory(state)
    found = set()
    for path in sorted(state.rglob("*")):
        name = path.relative_to(home.path).as_posix()
        # agent.json is the report of an agent that serves, and only the last one's.
        if not name.startswith("environments/") and name != "agent.json":
            found.add(_HEX.sub("DIGEST", name))
    return found
