"""All orders of what can happen to a device, breadth first, through the real `next_state`.

A state is a journal, the action under way and an abstract world (tests.support.abstract_device).
Journals, actions and worlds are numbered once, so that a state is one int; what an action can lead
to and what `next_state` answers is asked once for each of its inputs.

Two journals count as the same one if they differ only in what no transition reads: reasons and
times, the list of rollbacks, and crashes beyond the third.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Generic, NamedTuple, TypeVar

from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.state_machine.actions import Action, Serve
from forge.device.state_machine.events import MachineEvent, UpdateFound
from forge.device.state_machine.journal import FailedRelease, Journal
from forge.device.state_machine.transitions import MAX_CRASHES
from forge.errors import ForgeError
from tests.support.abstract_device import (
    AT,
    GOOD,
    NEW_DEVICE,
    NUMBERS,
    RELEASES,
    STARTED,
    Move,
    View,
    World,
    outcomes,
    recovered,
    remember,
    works,
)

__all__ = [
    "Claims", "Explored", "Explorer", "Invariants", "Situation", "Step", "Transition",
    "ViolatedError", "canonical",
]  # fmt: skip

_NOTHING: Final = -1  # no event
_LOST: Final = -2  # the agent is started, and its journal is lost
_WORLD_BITS: Final = 22
_ACTION_BITS: Final = 6
_LONGEST_CALM: Final = 60

Transition = Callable[[Journal, MachineEvent], tuple[Journal, Action]]
_T = TypeVar("_T")


class Claims(NamedTuple):
    """What a journal says of the world, in numbers.

    Attributes:
        slots: release in each slot; 0: none.
        previous: release that can be gone back to; 0: none.
        bad: releases, one bit each.
        held: release; 0: none.
        waits: release that was interrupted too often, the rounds, and the checks it still waits.
    """

    slots: tuple[int, int]
    previous: int
    bad: int
    held: int
    waits: tuple[int, int, int]

    @classmethod
    def of(cls, journal: Journal) -> Claims:
        """The claims of a journal."""
        names: tuple[SlotName, SlotName] = ("a", "b")
        a, b = (_number(journal.slots.get(name)) for name in names)
        bad = sum(1 << number for number in {_number(one.release) for one in journal.bad})
        held = journal.held.release if journal.held else None
        late = journal.interrupted
        waits = (_number(late.release), late.times, late.checks) if late else (0, 0, 0)
        return cls((a, b), _number(journal.previous), bad, _number(held), waits)


class Situation(NamedTuple):
    """One state, as an invariant looks at it; `action` is None where none is under way."""

    view: View
    claims: Claims
    action: Action | None
    world: World


class Step(NamedTuple):
    """One answer of the state machine."""

    before: Journal
    event: MachineEvent
    after: Journal
    action: Action


@dataclass(frozen=True)
class Invariants:
    """What must hold; the name of each function is what a violation says.

    Attributes:
        steps: of every answer of the state machine.
        situations: of every state.
    """

    steps: Sequence[Callable[[Step], bool]]
    situations: Sequence[Callable[[Situation], bool]]


@dataclass(frozen=True)
class Explored:
    """What was seen.

    Attributes:
        states: how many.
        depth: how many things had happened at most before one of them; all orders of so many.
        closed: nothing else can be reached.
        seconds: CPU time.
        calls: of the real `next_state`.
        worlds: abstract devices.
        journals: of them.
    """

    states: int
    depth: int
    closed: bool
    seconds: float
    calls: int
    worlds: int
    journals: int

    def __str__(self) -> str:
        kind = "all there are" if self.closed else "every order"
        return (
            f"{self.states:,} states, {self.depth} deep ({kind}), {self.seconds:.1f} s of CPU;"
            f" {self.journals:,} journals, {self.worlds:,} worlds, {self.calls:,} transitions"
        )


class ViolatedError(AssertionError):
    """An invariant does not hold; says the shortest way there."""


class _BrokenError(Exception):
    """A step that breaks an invariant, before the way there is known."""

    def __init__(self, sentence: str, event: MachineEvent) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.event = event


@dataclass
class _Numbers(Generic[_T]):
    """Things and their numbers."""

    things: list[_T] = field(default_factory=list)
    numbers: dict[object, int] = field(default_factory=dict)

    def of(self, thing: _T, key: object = None) -> int:
        found = self.numbers.setdefault(thing if key is None else key, len(self.things))
        if found == len(self.things):
            self.things.append(thing)
        return found


class _Way(NamedTuple):
    """A move in numbers: event or _NOTHING or _LOST, world, action after it, calm."""

    event: int
    world: int
    then: int
    calm: bool


class Explorer:
    """Explores one transition function.

    Args:
        next_state: the transition function.
        invariants: that must hold.
    """

    def __init__(self, next_state: Transition, invariants: Invariants) -> None:
        self._next_state = next_state
        self._invariants = invariants
        self._worlds = _Numbers[World]()
        self._events = _Numbers[MachineEvent]()
        self._actions = _Numbers[Action | None]()
        self._journals = _Numbers[Journal]()
        self._views: list[int] = []  # by journal
        self._known_views = _Numbers[View]()
        self._claims: list[Claims] = []
        self._serving: list[int] = []  # the action that lets the active slot serve
        self._recoveries: dict[int, int] = {}
        self._ways: dict[int, tuple[_Way, ...]] = {}
        self._steps: dict[int, tuple[int, int]] = {}
        self._memories: dict[tuple[int, int, int, int], int] = {}
        self._parents: dict[int, int] = {}
        self._good: set[int] = set()
        self._calls = 0
        self._actions.of(None, "none")

    def explore(
        self, states: int, depth: int, start: tuple[Journal, World] = NEW_DEVICE
    ) -> Explored:
        """Look at every state, one more move deep each time.

        Args:
            states: it ends after the layer in which there are as many,
            depth: and which is as deep.
            start: from here.

        Raises:
            ViolatedError: an invariant does not hold.
        """
        began, at = time.process_time(), 0
        first = self._key(self._journal(start[0]), 0, self._worlds.of(start[1]))
        parents, layer = self._parents, [first]
        parents[first] = -1
        self._check(first)
        while layer and (len(parents) < states or at < depth):
            following: list[int] = []
            for key in layer:
                for after in self._successors(key):
                    if after not in parents:
                        parents[after] = key
                        following.append(after)
                        self._check(after)
            layer = following
            at += bool(layer)
        return Explored(
            states=len(parents),
            depth=at,
            closed=not layer,
            seconds=time.process_time() - began,
            calls=self._calls,
            worlds=len(self._worlds.things),
            journals=len(self._journals.things),
        )

    def require_a_good_end(self) -> int:
        """Whether a good release is installed from each state, once nothing goes wrong any more.

        Returns how many states were asked. Raises ViolatedError.
        """
        for key in tuple(self._parents):
            if key not in self._good:
                self._follow(key)
        return len(self._good)

    def kinds(self) -> set[str]:
        """Names of the kinds of events and actions that were seen."""
        seen = (*self._events.things, *self._actions.things)
        return {type(one).__name__ for one in seen}

    def _follow(self, key: int) -> None:
        path: list[int] = []
        while key not in self._good:
            path.append(key)
            after = self._calm(key)
            if after is None:
                break
            if len(path) > _LONGEST_CALM:
                name = "a good release is installed in the end"
                raise ViolatedError(self._story(name, path[0], path[1:]))
            key = after
        self._good.update(path)

    def _story(self, name: str, key: int, rest: Sequence[int]) -> str:
        """The shortest way to a state, and what came after it, one line each."""
        path = [key]
        while (parent := self._parents[path[0]]) >= 0:
            path.insert(0, parent)
        path += rest
        lines = [f"{0:>3}. at first: {self._told(path[0])}"]
        for number, (before, after) in enumerate(pairwise(path), 1):
            lines.append(f"{number:>3}. {self._label(before, after)}: {self._told(after)}")
        return f"not true: {name}\n" + "\n".join(lines)

    def _label(self, before: int, after: int) -> str:
        journal = self._parts(before)[0]
        for move in self._moves(before):
            found = self._after(journal, self._way(move))
            if after in found:
                unwritten = ", and the journal cannot be written" if found[0] != after else ""
                return move.label + unwritten
        return "the channel offers a good release"

    def _told(self, key: int) -> str:
        number, action, world = self._parts(key)
        journal, now = self._journals.things[number], self._worlds.things[world]
        told = [journal.state, f"under way: {_short(self._actions.things[action])}"]
        told += [f"{name}={slot.told()}" for name, slot in zip(SLOTS, now.slots, strict=True)]
        told.append(f"current={_name(now.current)} serves={_name(now.live)}")
        told.append(f"runs={''.join(n for n, up in zip(SLOTS, now.up, strict=True) if up) or '-'}")
        claims = self._claims[number]
        told.append(f"active={journal.active or '-'} previous={claims.previous or '-'}")
        told.append(
            f"held={claims.held or '-'} bad={_bits(claims.bad)} attempts={journal.attempts}"
            f" waits={claims.waits if claims.waits[0] else '-'}"
        )
        return " | ".join(told)

    def _calm(self, key: int) -> int | None:
        """The next state where nothing goes wrong; None: it serves the best it can have."""
        journal, action, world = self._parts(key)
        view = self._known_views.things[self._views[journal]]
        if view.state == "idle" and self._actions.things[action] is None:
            now, claims = self._worlds.things[world], self._claims[journal]
            allowed = (n for n in GOOD if not claims.bad >> n & 1 and claims.held != n)
            wanted = next((n for n in allowed if works(n, now)), 0)
            if wanted and (view.active < 0 or claims.slots[view.active] != wanted):
                offer = self._event(UpdateFound(RELEASES[wanted]))
                return self._after(journal, _Way(offer, world, action, calm=True))[0]
            if not wanted:
                return None
        calm = (way for way in self._all_ways(key) if way.calm)
        way = next(calm, None)
        return self._after(journal, way)[0] if way else None

    def _successors(self, key: int) -> list[int]:
        journal = key >> (_WORLD_BITS + _ACTION_BITS)
        found: list[int] = []
        try:
            for way in self._all_ways(key):
                found += self._after(journal, way)
        except _BrokenError as broken:
            story = self._story(broken.sentence, key, ())
            raise ViolatedError(f"{story}\n  then: {broken.event}") from None
        return found

    def _after(self, journal: int, way: _Way) -> tuple[int, ...]:
        """The states after a move: the first is the one in which the journal could be written."""
        event, world, then, _ = way
        if event == _NOTHING:
            return (self._key(journal, then, world),)
        if event == _LOST:
            journal, event = self._recovered(world), self._event(STARTED)
        step = self._steps.get(journal << 6 | event)
        after, action = step or self._step(journal, event)
        noted = self._remembered(journal, event, action, world)
        done = (after << _ACTION_BITS | action) << _WORLD_BITS | noted
        if after == journal:
            return (done,)
        # Where the journal cannot be written, nothing changes and what was committed serves.
        return done, self._key(journal, self._serving[journal], world)

    def _recovered(self, world: int) -> int:
        """The journal that the agent makes of a world where it lost its own."""
        found = self._recoveries.get(world)
        if found is None:
            found = self._journal(recovered(self._worlds.things[world]))
            self._recoveries[world] = found
        return found

    def _all_ways(self, key: int) -> tuple[_Way, ...]:
        journal, action, world = self._parts(key)
        view = self._views[journal]
        short = (view << _ACTION_BITS | action) << _WORLD_BITS | world
        found = self._ways.get(short)
        if found is None:
            found = tuple(map(self._way, self._moves(key)))
            self._ways[short] = found
        return found

    def _moves(self, key: int) -> list[Move]:
        journal, action, world = self._parts(key)
        view = self._known_views.things[self._views[journal]]
        return list(outcomes(self._actions.things[action], view, self._worlds.things[world]))

    def _way(self, move: Move) -> _Way:
        world, then = self._worlds.of(move.world), self._action(move.then)
        if move.event is None:
            return _Way(_NOTHING, world, then, move.calm)
        event = self._event(move.event) if move.journal else _LOST
        return _Way(event, world, then, move.calm)

    def _step(self, journal: int, event: int) -> tuple[int, int]:
        self._calls += 1
        before, happened = self._journals.things[journal], self._events.things[event]
        try:
            after, action = self._next_state(before, happened)
        except ForgeError as error:
            sentence = f"what happens is expected ({error.what})"
            raise _BrokenError(sentence, happened) from None
        step = Step(before, happened, after, action)
        for invariant in self._invariants.steps:
            if not invariant(step):
                raise _BrokenError(_sentence(invariant.__name__), happened)
        found = self._journal(after), self._action(action)
        self._steps[journal << 6 | event] = found
        return found

    def _remembered(self, journal: int, event: int, action: int, world: int) -> int:
        key = self._views[journal], event, action, world
        found = self._memories.get(key)
        if found is None:
            happened, then = self._events.things[event], self._actions.things[action]
            assert then is not None
            view = self._known_views.things[key[0]]
            found = self._worlds.of(remember(view, happened, then, self._worlds.things[world]))
            self._memories[key] = found
        return found

    def _check(self, key: int) -> None:
        journal, action, world = self._parts(key)
        situation = Situation(
            self._known_views.things[self._views[journal]],
            self._claims[journal],
            self._actions.things[action],
            self._worlds.things[world],
        )
        for invariant in self._invariants.situations:
            if not invariant(situation):
                raise ViolatedError(self._story(_sentence(invariant.__name__), key, ()))

    def _journal(self, journal: Journal) -> int:
        found = self._journals.of(canonical(journal), _identity(journal))
        if found == len(self._views):
            self._views.append(self._known_views.of(View.of(journal)))
            self._claims.append(Claims.of(journal))
            self._serving.append(self._action(Serve(journal.active) if journal.active else None))
        return found

    def _event(self, event: MachineEvent) -> int:
        return self._events.of(event)

    def _action(self, action: Action | None) -> int:
        return self._actions.of(action, "none" if action is None else action)

    def _key(self, journal: int, action: int, world: int) -> int:
        return (journal << _ACTION_BITS | action) << _WORLD_BITS | world

    def _parts(self, key: int) -> tuple[int, int, int]:
        world = key & ((1 << _WORLD_BITS) - 1)
        action = key >> _WORLD_BITS & ((1 << _ACTION_BITS) - 1)
        return key >> (_WORLD_BITS + _ACTION_BITS), action, world


def _identity(journal: Journal) -> tuple[object, ...]:
    """All that a transition may read of a journal."""
    claims = Claims.of(journal)
    return (
        journal.state,
        journal.active,
        journal.target,
        _number(journal.candidate),
        claims,
        journal.attempts,
        journal.blue_green,
        min(journal.crashes, MAX_CRASHES),
    )


def canonical(journal: Journal) -> Journal:
    """The journal that represents all with its identity."""
    bad = sorted({_number(one.release) for one in journal.bad})
    changes = {
        "crashes": min(journal.crashes, MAX_CRASHES),
        "bad": tuple(_verdict(number) for number in bad),
        "held": _verdict(_number(journal.held.release)) if journal.held else None,
        "rollbacks": (),
    }
    if late := journal.interrupted:
        release = RELEASES[_number(late.release)]
        same = {"release": release, "reason": "any", "at": AT}
        changes["interrupted"] = late.model_copy(update=same)
    return journal.model_copy(update=changes)


def _verdict(number: int) -> FailedRelease:
    return FailedRelease(release=RELEASES[number], reason="any", at=AT)


def _number(release: Release | None) -> int:
    return NUMBERS[release.manifest] if release else 0


def _sentence(name: str) -> str:
    return name.replace("_", " ")


def _name(slot: int) -> str:
    return SLOTS[slot] if slot >= 0 else "-"


def _bits(mask: int) -> str:
    return ",".join(str(number) for number in RELEASES if mask >> number & 1) or "-"


def _short(action: Action | None) -> str:
    if action is None:
        return "nothing"
    text = str(action)
    for number, release in RELEASES.items():
        text = text.replace(repr(release), str(number))
    return text
