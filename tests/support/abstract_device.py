"""A device reduced to what its state machine can tell apart, and all that can happen to it.

Two slots, the link `current`, the servers that run, and what an observer who never restarts
remembers. `outcomes` performs an action as `forge.device.agent.executor` and `.agent` do:
each effect in their order, with a kill or power cut between any two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.state_machine.actions import (
    Action,
    Activate,
    Fetch,
    GoBack,
    Prepare,
    Probe,
    Serve,
    Switch,
)
from forge.device.state_machine.events import (
    Crashed,
    Failed,
    Fetched,
    GoBackAsked,
    HoldLifted,
    MachineEvent,
    Prepared,
    Probed,
    Ready,
    Started,
    Stopped,
    Switched,
    UpdateFound,
    WentBack,
)
from forge.device.state_machine.journal import Journal
from forge.device.state_machine.transitions import STEADY_S

__all__ = [
    "AT", "BAD", "GOOD", "NEW_DEVICE", "NUMBERS", "RELEASES", "STARTED", "UPDATED_DEVICE", "Move",
    "Slot", "View", "World", "outcomes", "recovered", "remember", "works",
]  # fmt: skip

AT: Final = "2026-11-24T00:00:00Z"

# Release 1 is activated as a swap and works anywhere. 2 is blue-green and does not start on the
# newer OS. 3 is blue-green and bad: a proof does not hold, or a golden prompt gets a wrong answer.
# 4 is blue-green and works anywhere.
GOOD: Final = (1, 4, 2)
BAD: Final = 3
_BLUE_GREEN: Final = frozenset({2, 3, 4})
RELEASES: Final = {
    number: Release(name="llm", version=str(number), profile="any", manifest=f"{number:064}")
    for number in (1, 2, 3, 4)
}
NUMBERS: Final = {release.manifest: number for number, release in RELEASES.items()}

STARTED: Final = Started(AT)
_TRYING: Final = frozenset({"staged", "activating", "probing"})
_RELEASE_FAULT: Final = Failed("it answered wrongly", AT, release_fault=True)
_OTHER_FAULT: Final = Failed("the network is down", AT, release_fault=False)


class Slot(NamedTuple):
    """What a slot holds on disk.

    Attributes:
        release: its number; 0: nothing that is complete.
        whole: False: bytes of it were damaged; of an incomplete one: it is half fetched.
        served: it passed its probe and was committed, in this slot.
    """

    release: int = 0
    whole: bool = True
    served: bool = False

    def told(self) -> str:
        """For a trace."""
        if self.release == 0:
            return "absent" if self.whole else "half fetched"
        return f"{self.release}{'' if self.whole else ' damaged'}{' served' if self.served else ''}"


ABSENT: Final = Slot()
_STAGED: Final = Slot(whole=False)


class World(NamedTuple):
    """A device without its journal.

    Attributes:
        slots: on disk.
        aside: what the slot that is being fetched held; gone after a restart.
        current: the slot that the link names; -1: none.
        upgraded: the machine runs the newer OS.
        up: whose server runs.
        live: whose server gets the requests; -1: none.
        unservable: 1, 2: the active slot's server did not start, which is the release's fault (1)
            or not (2). The agent reports it at its next turn.
        last: the slot that was committed last; remembered by the observer, like the next two.
        condemned: releases with a verdict, one bit each.
        held: the release that an operator went back from; 0: none.
    """

    slots: tuple[Slot, Slot] = (ABSENT, ABSENT)
    aside: Slot = ABSENT
    current: int = -1
    upgraded: bool = False
    up: tuple[bool, bool] = (False, False)
    live: int = -1
    unservable: int = 0
    last: int = -1
    condemned: int = 0
    held: int = 0


NEW_DEVICE: Final = Journal(), World()
UPDATED_DEVICE: Final = (  # from 1 in slot a to 4 in slot b
    Journal(active="b", slots={"a": RELEASES[1], "b": RELEASES[4]}, previous=RELEASES[1]),
    World(
        slots=(Slot(1, served=True), Slot(4, served=True)),
        current=1,
        up=(False, True),
        live=1,
        last=1,
    ),
)


class View(NamedTuple):
    """What the agent, performing an action, reads of its journal.

    Attributes:
        state: of the journal.
        active: slot.
        target: slot.
        candidate: number of the release; 0: none.
        returns: the candidate is what served before.
        way_back: there is something to go back to.
        holds: a release is held.
    """

    state: str
    active: int
    target: int
    candidate: int
    returns: bool
    way_back: bool
    holds: bool

    @classmethod
    def of(cls, journal: Journal) -> View:
        """The view of a journal."""
        candidate = journal.candidate
        return cls(
            state=journal.state,
            active=_index(journal.active),
            target=_index(journal.target),
            candidate=NUMBERS[candidate.manifest] if candidate else 0,
            returns=candidate is not None and candidate == journal.previous,
            way_back=journal.previous is not None,
            holds=journal.held is not None,
        )


class Move(NamedTuple):
    """One thing that can happen.

    Attributes:
        label: for a trace.
        world: after it.
        event: that the agent gets; None: none, and it waits (or performs `then`).
        then: the action that is under way afterwards if there is no event.
        journal: False: the journal was lost, too.
        calm: this happens where nothing goes wrong.
    """

    label: str
    world: World
    event: MachineEvent | None = None
    then: Action | None = None
    journal: bool = True
    calm: bool = False


def works(number: int, world: World) -> bool:
    """Whether a release that is whole loads and answers here."""
    return number != BAD and not (number == 2 and world.upgraded)


def active_of(world: World) -> int:
    """The slot that serves after the journal was lost: `current`, if that is complete; else -1."""
    return world.current if world.current >= 0 and world.slots[world.current].release else -1


def recovered(world: World) -> Journal:
    """What `Home.journal` makes of a folder whose journal is lost."""
    active = active_of(world)
    if active < 0:
        return Journal()
    name = SLOTS[active]
    return Journal(active=name, slots={name: RELEASES[world.slots[active].release]})


def outcomes(action: Action | None, view: View, world: World) -> Iterator[Move]:
    """Everything that can happen while this action is performed; None: while nothing is."""
    match action:
        case None:
            yield from _rest(view, world)
        case Fetch(release, slot):
            yield from _fetch(NUMBERS[release.manifest], _index(slot), view, world)
        case Prepare(slot, serving):
            yield from _prepare(_index(slot), _index(serving), view, world)
        case Activate(slot, beside):
            yield from _activate(_index(slot), _index(beside), view, world)
        case Probe(slot):
            yield from _probe(_index(slot), view, world)
        case Switch(slot):
            switched = world._replace(current=_index(slot))
            yield Move("current is switched", switched, Switched(), calm=True)
            yield Move("the switch fails", world, _OTHER_FAULT)
            yield Move("killed after the switch", _killed(switched), STARTED)
        case GoBack(slot):
            stopped = _stop_all(world, but=_index(slot))
            yield Move("the candidate is stopped", stopped, WentBack(), calm=True)
            yield Move("stopping fails", world, _OTHER_FAULT)
        case Serve(slot):
            yield from _serve(_index(slot), world)
        case _:
            yield Move("nothing to do", world, calm=True)
    yield from _at_any_time(action, world)


def remember(view: View, event: MachineEvent, after: Action, world: World) -> World:
    """What the observer remembers of an event, once the journal that notes it is written.

    Args:
        view: of the journal before.
        event: that came.
        after: the action that follows.
        world: after the event.
    """
    match event:
        case Probed():
            noted = _committed(view.target, world)
        case HoldLifted():
            noted = world._replace(held=0)
        case GoBackAsked() if isinstance(after, Activate):
            noted = world._replace(held=world.slots[view.active].release)
        case Crashed(release_fault=True) if isinstance(after, Activate):
            noted = _condemn(world.slots[view.active].release, world)
        case Failed(release_fault=release_fault):
            noted = _failed(view, world, release_fault=release_fault)
        case Started() if view.state in _TRYING and not isinstance(after, Prepare | Activate):
            noted = _failed(view, world, release_fault=False)  # interrupted too often
        case _:
            noted = world
    return noted


def _failed(view: View, world: World, *, release_fault: bool) -> World:
    if view.candidate == 0 or view.state in {"committed", "rolling-back"}:
        return world
    going_back = view.state != "fetching" and world.slots[view.target].served
    if going_back and world.held == world.slots[view.active].release:  # asked by hand, in vain
        world = world._replace(held=0)
    return _condemn(view.candidate, world) if release_fault and world.last >= 0 else world


def _condemn(number: int, world: World) -> World:
    return world._replace(condemned=world.condemned | 1 << number)


def _committed(slot: int, world: World) -> World:
    release, whole, returned = world.slots[slot]
    slots = _with(world.slots, slot, Slot(release, whole, served=True))
    held = world.held if returned and world.held != release else 0
    return world._replace(slots=slots, last=slot, held=held)


def _rest(view: View, world: World) -> Iterator[Move]:
    active = view.active
    if active >= 0 and not world.up[active]:
        yield from _not_serving(view, world)
    if view.state != "idle":  # the journal could not be written: the next look goes on from it
        yield Move("the agent goes on from its journal", world, STARTED, calm=True)
        return
    for number, release in RELEASES.items():
        yield Move(f"the channel offers {number}", world, UpdateFound(release))
    if active >= 0 and world.up[active]:
        down = _down(world, active)
        yield Move(
            "the server ends soon", down, Crashed("out of memory", AT, 3.0, release_fault=True)
        )
        late = Crashed("out of memory", AT, STEADY_S + 1, release_fault=True)
        yield Move("the server ends after hours", down, late)
    if view.way_back:
        both = all(slot.release in _BLUE_GREEN for slot in world.slots)
        yield Move("asked to go back", world, GoBackAsked("too slow", AT, blue_green=both))
    if view.holds:
        yield Move("asked to lift the hold", world, HoldLifted())
    yield from _weights_read(view, world)


def _not_serving(view: View, world: World) -> Iterator[Move]:
    serve = Serve(SLOTS[view.active])
    idle, heard = view.state == "idle", world._replace(unservable=0)
    if world.unservable and idle:
        crashed = Crashed("it does not load", AT, 0.0, release_fault=world.unservable == 1)
        yield Move("the server did not load", heard, crashed, calm=True)
    else:
        yield Move("the server is started again", heard, then=serve, calm=idle)


def _fetch(number: int, slot: int, view: View, world: World) -> Iterator[Move]:
    emptied = world._replace(slots=_with(world.slots, slot, _STAGED), aside=world.slots[slot])
    no_room = emptied._replace(aside=ABSENT)
    complete = no_room._replace(slots=_with(world.slots, slot, Slot(number)))
    bad = number == BAD
    yield Move(f"{number} is fetched", complete, Fetched(), calm=True)
    yield Move("the store is out of reach", no_room, _OTHER_FAULT)
    if bad:
        yield Move("a proof does not hold", no_room, _RELEASE_FAULT)
    if emptied.aside.release:
        put_back = world._replace(aside=ABSENT)
        yield Move("fetching is stopped", put_back, Stopped(restored=True))
    yield Move("fetching is stopped, the disk was small", no_room, Stopped(restored=False))
    yield Move("killed while fetching", _killed(emptied), STARTED)
    yield Move("killed after the last byte", _killed(complete), STARTED)
    yield from _server_ends(view, world, Fetch(RELEASES[number], SLOTS[slot]))


def _prepare(slot: int, serving: int, view: View, world: World) -> Iterator[Move]:
    action = Prepare(SLOTS[slot], SLOTS[serving] if serving >= 0 else None)
    if serving >= 0 and not world.up[serving]:
        for move in _serve(serving, world):  # the rest follows whether it serves or not
            yield move._replace(then=Prepare(SLOTS[slot]))
        return
    if serving >= 0:
        world = world._replace(live=serving, current=serving)
    release, whole, _ = world.slots[slot]
    blue_green = release in _BLUE_GREEN
    compiles = whole and (release == BAD or works(release, world))
    if compiles or not whole:  # damage may be seen now or when it is started
        yield Move("prepared", world, Prepared(blue_green=blue_green), calm=True)
    if not compiles:
        yield Move("the bundle cannot be prepared", world, _RELEASE_FAULT, calm=whole)
    yield Move("the package index is out of reach", world, _OTHER_FAULT)
    yield from _server_ends(view, world, action)


def _activate(slot: int, beside: int, view: View, world: World) -> Iterator[Move]:
    taken = world if beside >= 0 else world._replace(live=-1)
    stopped = _stop_all(taken, but=beside)
    started = stopped._replace(up=_with_up(stopped.up, slot))
    release, whole, _ = world.slots[slot]
    if whole and (release == BAD or works(release, world)):
        yield Move("the model is loaded", started, Ready(), calm=True)
    else:
        yield from _load_fails(slot, view, stopped)
    yield Move("a package is missing", taken, _OTHER_FAULT)
    yield Move("a port is taken", stopped, _OTHER_FAULT)
    if beside >= 0:
        yield from _server_ends(view, world, Activate(SLOTS[slot], SLOTS[beside]))


def _probe(slot: int, view: View, world: World) -> Iterator[Move]:
    release, whole, _ = world.slots[slot]
    if not world.up[slot]:  # it ended since
        yield Move("there is nothing to ask", world, _RELEASE_FAULT, calm=True)
    elif works(release, world):  # what runs is in memory: damage since does not show
        yield Move("every answer is right", world, Probed(), calm=True)
    elif whole or not view.returns:
        yield Move("an answer is wrong", world, _RELEASE_FAULT, calm=True)
    else:
        yield from _load_fails(slot, view, world)
    yield Move("the disk fails", world, _OTHER_FAULT)


def _load_fails(slot: int, view: View, world: World) -> Iterator[Move]:
    """Where it goes back to a damaged slot, that is repaired first and no release counts as bad."""
    release, whole, served = world.slots[slot]
    if whole or not view.returns:
        yield Move("the model does not load", world, _RELEASE_FAULT, calm=True)
        return
    healed = world._replace(slots=_with(world.slots, slot, Slot(release, served=served)))
    yield Move("the slot was damaged and is healed", healed, _OTHER_FAULT, calm=True)
    yield Move("the slot is damaged", world, _OTHER_FAULT)


def _serve(slot: int, world: World) -> Iterator[Move]:
    world = world._replace(current=slot, unservable=0)
    release, whole, served = world.slots[slot]
    refused = world if world.live != slot else world._replace(live=-1)
    if world.up[slot] or (whole and works(release, world)):
        alone = _stop_all(world, but=slot)
        up = (slot == 0, slot == 1)
        yield Move(f"slot {SLOTS[slot]} serves", alone._replace(up=up, live=slot), calm=True)
    elif whole:
        yield Move("it does not load", refused._replace(unservable=1), calm=True)
    else:
        healed = _with(world.slots, slot, Slot(release, served=served))
        yield Move("its damage is healed", refused._replace(slots=healed), calm=True)
        yield Move("it is damaged, no store", refused._replace(unservable=2))
    yield Move("it cannot be started now", _stop_all(refused._replace(live=-1), but=-1))


def _weights_read(view: View, world: World) -> Iterator[Move]:
    """The background reading finds what is damaged and repairs it, and restarts what serves.

    Only while the device is idle and nothing is under way (forge.device.agent.weights_repair).
    """
    for index in (0, 1):
        release, whole, served = world.slots[index]
        if not release or whole:
            continue
        healed = world._replace(slots=_with(world.slots, index, Slot(release, served=served)))
        label = f"slot {SLOTS[index]} is read and repaired"
        if index == view.active:
            yield Move(label, _down(healed, index), then=Serve(SLOTS[index]))
        else:
            yield Move(label, healed)


def _server_ends(view: View, world: World, action: Action) -> Iterator[Move]:
    if view.active >= 0 and world.up[view.active]:
        yield Move("the active server ends meanwhile", _down(world, view.active), then=action)


def _at_any_time(action: Action | None, world: World) -> Iterator[Move]:
    cut = _killed(world)
    yield Move("killed, or a power cut", cut, STARTED)
    if not world.upgraded:
        yield Move("the OS is upgraded", cut._replace(upgraded=True), STARTED)
    yield Move("killed, and the journal is lost", _amnesia(cut), STARTED, journal=False)
    for index in (0, 1):
        slot = world.slots[index]
        if slot.release and slot.whole:
            slots = _with(world.slots, index, slot._replace(whole=False))
            label = f"slot {SLOTS[index]} is damaged"
            yield Move(label, world._replace(slots=slots), then=action)


def _killed(world: World) -> World:
    return world._replace(aside=ABSENT, up=(False, False), live=-1, unservable=0)


def _amnesia(world: World) -> World:
    """Verdicts are lost with the journal; the slot that serves is told by `current`."""
    return world._replace(last=active_of(world), condemned=0, held=0)


def _down(world: World, slot: int) -> World:
    up = (world.up[0] and slot != 0, world.up[1] and slot != 1)
    return world._replace(up=up, live=-1 if world.live == slot else world.live)


def _stop_all(world: World, *, but: int) -> World:
    up = (world.up[0] and but == 0, world.up[1] and but == 1)
    return world._replace(up=up, live=world.live if world.live == but else -1)


def _with(slots: tuple[Slot, Slot], index: int, slot: Slot) -> tuple[Slot, Slot]:
    return (slot, slots[1]) if index == 0 else (slots[0], slot)


def _with_up(up: tuple[bool, bool], index: int) -> tuple[bool, bool]:
    return (True, up[1]) if index == 0 else (up[0], True)


def _index(slot: SlotName | None) -> int:
    return -1 if slot is None else SLOTS.index(slot)
