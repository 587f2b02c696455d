"""Commands of a device to be disturbed at each of their system calls, and what must come of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forge.device import maintenance
from forge.device.state import integrity
from forge.device.state.settings import read_settings
from forge.errors import ForgeError
from tests.support.device_world import Device, Says, World
from tests.support.survival import (
    Setup,
    check_journal,
    check_no_server,
    check_slot,
    forge_device,
    listing,
    retried,
    serves,
    version,
)

__all__ = ["NEW", "OLD", "UPDATE", "WALKS", "WORDS", "Walk", "make_setups", "prepared", "survives"]

OLD, NEW = "1.0.0", "1.1.0"
WORDS = {OLD: "Paris of old", NEW: "Paris of now"}
ENGINE = "models/llm/1/engine"


@dataclass(frozen=True)
class Walk:
    """What is killed at each of its system calls.

    Attributes:
        name: of its numbers.
        what: in a sentence.
        before: the device.
        argv: the command, for a state folder.
        allowed: versions that may be current after a kill; None: no bundle.
        finish: run the agent again; must come to the end that an undisturbed run has.
        begin: what is done to the copy before the command.
        most: points on each push.
        damaged: the current slot is not whole in the beginning.
        serve_each: how often the agent has to serve straight after the kill; 0: never.
    """

    name: str
    what: str
    before: str
    argv: Callable[[Device], list[str]]
    allowed: frozenset[str | None]
    finish: Callable[[Setup, Device], None]
    begin: Callable[[Device], None] = lambda _device: None
    most: int = 3
    serve_each: int = 0
    damaged: bool = False


def make_setups(folder: Path) -> dict[str, Setup]:
    """A publisher, and devices with nothing, with 1.0.0, and with 1.0.0 and 1.1.0."""
    world = World(folder)
    one = world.device()
    shutil.copytree(one.state, world.folder / "empty", symlinks=True)
    world.publish(OLD, Says(words=WORDS[OLD]))
    one.once()
    shutil.copytree(one.state, world.folder / "old", symlinks=True)
    world.publish(NEW, Says(words=WORDS[NEW]))
    one.once()
    world.publish("2.0.0", Says(words="Rome"), channel="broken")
    nothing = world.folder / "nothing"
    nothing.mkdir()
    (nothing / "environments").symlink_to((one.state / "environments").readlink())
    return {
        "nothing": Setup(world, nothing),
        "empty": Setup(world, world.folder / "empty"),
        "old": Setup(world, world.folder / "old"),
        "to-broken": Setup(world, world.folder / "old", "broken"),
        "both": Setup(world, one.state),
    }


def run_once(one: Device) -> list[str]:
    return forge_device("run", "--once", state=one.state)


def installs(_setup: Setup, one: Device) -> None:
    assert retried(one) == ""
    assert version(one) == NEW
    assert one.status.rollbacks == ()


def refuses(_setup: Setup, one: Device) -> None:
    retried(one)
    assert version(one) == OLD
    [verdict] = one.status.bad
    assert "Rome" in verdict.reason


def goes_back(_setup: Setup, one: Device) -> None:
    assert retried(one) == ""
    if version(one) == NEW:  # killed before it was written down what was asked
        maintenance.rollback(one.state, "by hand")
    assert version(one) == OLD
    assert one.status.held is not None


def provision(one: Device) -> list[str]:
    folder = one.state.parent
    root = folder / "root.json"
    argv = ("provision", "--store", str(folder / "store"), "--root", str(root), "--name", "llm",
            "--offline")  # fmt: skip
    return forge_device(*argv, state=one.state)


def provisions(setup: Setup, one: Device) -> None:
    try:
        read_settings(one.home.path)
    except ForgeError as error:
        assert "is not set up" in error.what  # noqa: PT017 - one of two ends
    setup.follow(one, "stable")
    installs(setup, one)


def with_root(setup: Setup, one: Device) -> None:
    (one.state.parent / "root.json").write_bytes(setup.world.root)


def damage(one: Device) -> None:
    path = one.home.slots.tree("b") / ENGINE / "weights.bin"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def repairs(_setup: Setup, one: Device) -> None:
    maintenance.verify(one.state, repair=True)
    release = one.home.journal().slots["b"]
    assert integrity.by_digest(one.home, "b", release) == ()
    assert version(one) == NEW


WALKS = [
    Walk(
        "kill-update", "an update", "old", run_once, frozenset({OLD, NEW}), installs,
        most=4, serve_each=4,
    ),
    Walk(
        "kill-first-install", "a first install", "empty", run_once, frozenset({None, NEW}),
        installs, most=2, serve_each=20,
    ),
    Walk(
        "kill-bad-update", "an update that is rolled back", "to-broken", run_once,
        frozenset({OLD}), refuses, most=2, serve_each=10,
    ),
    Walk(
        "kill-rollback", "`forge device rollback`", "both",
        lambda one: forge_device("rollback", state=one.state), frozenset({OLD, NEW}), goes_back,
        most=2, serve_each=10,
    ),
    Walk(
        "kill-provision", "`forge device provision`", "nothing", provision,
        frozenset({None}), provisions, most=1,
    ),
    Walk(
        "kill-repair", "`forge device verify --repair`", "both",
        lambda one: forge_device("verify", "--repair", state=one.state),
        frozenset({NEW}), repairs, begin=damage, most=2, damaged=True,
    ),
]  # fmt: skip


UPDATE = WALKS[0]


def prepared(walk: Walk, setups: dict[str, Setup], folder: Path) -> Device:
    """A copy of the walk's device below `folder`."""
    one = setups[walk.before].copy(folder)
    if walk.before == "nothing":
        (one.state / "device.json").unlink()
        (one.state / "root.json").unlink()
        (one.state / "lock").unlink()
    with_root(setups[walk.before], one)
    walk.begin(one)
    return one


def survives(walk: Walk, setup: Setup, one: Device, *, serve: bool) -> set[str]:
    """After a fault: the slots are whole and the next run gets through; the files in the end.

    Args:
        walk: what was disturbed.
        setup: where the device came from.
        one: the device as the fault left it.
        serve: before that next run, and without a store, its agent has to serve as well.

    Raises AssertionError; ForgeError or OSError from the next run.
    """
    check_journal(one, whole=not walk.damaged)
    if not walk.damaged:
        check_slot(one, walk.allowed)
    if serve:
        serves(one, walk.allowed, WORDS)
        check_no_server(one)
    walk.finish(setup, one)
    check_journal(one)
    check_slot(one, frozenset({version(one)}) - {None})
    assert one.status.state == "idle"
    return listing(one.state)
