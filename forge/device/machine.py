"""The device's state machine: what happened → what to write down and what to do next. Pure.

    idle ─UpdateFound→ fetching ─Fetched→ staged ─Prepared→ activating ─Ready→ probing ─Probed→
        committed ─Switched→ idle
    fetching, staged      ─Failed→ idle                the active slot has never stopped serving
    fetching              ─Stopped→ idle               to go back at once, or what else was asked
    activating, probing   ─Failed→ rolling-back ─WentBack→ idle
    idle                  ─Crashed, the third in a row, or GoBackAsked→ activating the other slot,
                           if that served once
    any state             ─Started→ goes on, or goes back (a restart after a kill or power cut)

Activating is `swap` or `blue-green`, as the release that comes wants it. In blue-green the active
slot serves through activating and probing, and until the candidate is committed and gets its first
request; going back then stops the candidate only. A restart in the middle returns to staged, so
that the active slot serves again before the candidate is tried once more. After crashes there is
nothing that could serve meanwhile: the other slot is activated as in a swap.

The journal is written, durably, before its action is done; so every action may be done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from forge.device.journal import Journal, Release, SlotName, State, Verdict, other
from forge.device.moves import (
    Action,
    Activate,
    Crashed,
    Event,
    Failed,
    Fetch,
    Fetched,
    GoBack,
    GoBackAsked,
    HoldLifted,
    Prepare,
    Prepared,
    Probe,
    Probed,
    Ready,
    Serve,
    Started,
    Stopped,
    Switch,
    Switched,
    UpdateFound,
    Wait,
    WentBack,
)
from forge.errors import ForgeError

__all__ = ["MAX_ATTEMPTS", "MAX_CRASHES", "STEADY_S", "next_state"]

MAX_ATTEMPTS: Final = 3  # starts of the agent during one activation before it counts as failed
MAX_CRASHES: Final = 3  # in a row, each within STEADY_S of its start
STEADY_S: Final = 300.0  # a server that lived this long did not end for the reason of the last one
_KEPT_VERDICTS: Final = 32


def next_state(journal: Journal, event: Event) -> tuple[Journal, Action]:
    """The journal to write and the action to do then.

    Raises:
        ForgeError: this event cannot happen in this state (a mistake in the agent).
    """
    if isinstance(event, Started):
        return _resume(journal, event.at)
    if isinstance(event, Failed):
        return _fail(journal, event)
    if begun := _step(journal, event):
        return begun
    step = _STEPS.get((journal.state, type(event)))
    if step is None:
        name = type(event).__name__
        raise ForgeError(
            f"The device's agent got {name} in state {journal.state}",
            why="this is a mistake in Forge",
            hint="restart the agent, it goes on from its journal; please report this",
        )
    return step(journal)


def _step(journal: Journal, event: Event) -> tuple[Journal, Action] | None:
    """What an event with something to say does in its state."""
    match journal.state, event:
        case "staged", Prepared():
            return _activate(journal, event)
        case "fetching", Stopped(restored):
            return _stop(journal, restored=restored)
        case "idle", _:
            return _idle(journal, event)
        case _:
            return None


def _idle(journal: Journal, event: Event) -> tuple[Journal, Action] | None:
    match event:
        case UpdateFound(release):
            return _begin(journal, release)
        case Crashed():
            return _crash(journal, event)
        case GoBackAsked():
            return _leave(journal, event)
        case HoldLifted():
            return _to(journal, held=None), _serve(journal.active)
        case _:
            return None


def _begin(journal: Journal, release: Release) -> tuple[Journal, Action]:
    unwanted = journal.is_bad(release) or journal.is_held(release)
    if unwanted or release == journal.active_release:
        return journal, Wait()
    target = other(journal.active)
    slots = {slot: held for slot, held in journal.slots.items() if slot != target}
    # Until all of it is there, the device may still go back: what the slot held is put aside.
    begun = _to(journal, state="fetching", target=target, candidate=release, slots=slots)
    return begun, Fetch(release, target)


def _crash(journal: Journal, event: Crashed) -> tuple[Journal, Action]:
    if journal.active is None or journal.active_release is None:
        return journal, Wait()
    crashes = 1 if event.lived_s > STEADY_S else journal.crashes + 1
    counted = _to(journal, crashes=crashes)
    if crashes < MAX_CRASHES or journal.previous is None:
        return counted, Serve(journal.active)
    reason = f"its server ended {crashes} times in a row: {event.reason}"[:8192]
    verdict = Verdict(release=journal.active_release, reason=reason, at=event.at)
    noted = _to(counted, rollbacks=_with(journal.rollbacks, verdict))
    if event.blame:
        noted = _to(noted, bad=_with(journal.bad, verdict))
    return _return(noted, journal.previous, blue_green=False)


def _leave(journal: Journal, event: GoBackAsked) -> tuple[Journal, Action]:
    if journal.active_release is None or journal.previous is None:
        return journal, Wait()
    held = Verdict(release=journal.active_release, reason=event.reason[:8192], at=event.at)
    held_back = _to(journal, held=held)
    return _return(held_back, journal.previous, blue_green=event.blue_green)


def _return(journal: Journal, previous: Release, *, blue_green: bool) -> tuple[Journal, Action]:
    """Activate what served before; it is probed like any other release."""
    target = other(journal.active)
    begun = _to(journal, state="activating", target=target, candidate=previous, attempts=1)
    return _activating(_to(begun, blue_green=blue_green))


def _staged(journal: Journal) -> tuple[Journal, Action]:
    slot, release = _candidate(journal)
    staged = _to(journal, state="staged", slots={**journal.slots, slot: release}, previous=None)
    return staged, Prepare(slot)


def _stop(journal: Journal, *, restored: bool) -> tuple[Journal, Action]:
    slot, _ = _candidate(journal)
    if not restored or journal.previous is None:
        return _finish(_to(journal, previous=None))
    return _finish(_to(journal, slots={**journal.slots, slot: journal.previous}))


def _activate(journal: Journal, event: Prepared) -> tuple[Journal, Action]:
    attempts, blue_green = journal.attempts + 1, event.blue_green and journal.active is not None
    return _activating(_to(journal, state="activating", attempts=attempts, blue_green=blue_green))


def _activating(journal: Journal) -> tuple[Journal, Action]:
    slot, _ = _candidate(journal)
    return journal, Activate(slot, journal.active if journal.blue_green else None)


def _probe(journal: Journal) -> tuple[Journal, Action]:
    slot, _ = _candidate(journal)
    return _to(journal, state="probing"), Probe(slot)


def _commit(journal: Journal) -> tuple[Journal, Action]:
    slot, release = _candidate(journal)
    left = journal.active_release
    committed = _to(_rest(journal), state="committed", active=slot, crashes=0)
    if release != journal.previous:
        kept = left if left and not journal.is_bad(left) else None
        return _to(committed, previous=kept, held=None), Switch(slot)
    # Gone back. What was left by hand may be returned to by hand, what was bad may not.
    if left is None or journal.is_bad(left):
        return _to(committed, previous=None), Switch(slot)
    if held := journal.is_held(left):
        committed = _to(committed, rollbacks=_with(journal.rollbacks, held))
        return _to(committed, previous=left), Switch(slot)
    return _to(committed, previous=None), Switch(slot)  # left because its files are damaged


def _finish(journal: Journal) -> tuple[Journal, Action]:
    return _rest(journal), _serve(journal.active)


def _resume(journal: Journal, at: str) -> tuple[Journal, Action]:
    if journal.state in {"activating", "probing"}:
        if journal.attempts >= MAX_ATTEMPTS:
            reason = f"the agent ended {journal.attempts} times while it tried this bundle"
            return _fail(journal, Failed(reason, at, blame=True))
        if not journal.blue_green:
            return _activating(_to(journal, state="activating", attempts=journal.attempts + 1))
        journal = _to(journal, state="staged")
    if journal.state == "staged":
        return journal, Prepare(_candidate(journal)[0], serving=journal.active)
    if journal.state == "committed" and journal.active:
        return journal, Switch(journal.active)
    if journal.state == "rolling-back":
        return journal, GoBack(journal.active)
    if journal.state == "fetching":  # what came so far stays as a seed, the channel may have moved
        journal = _to(journal, previous=None)
    return _finish(journal)


def _fail(journal: Journal, event: Failed) -> tuple[Journal, Action]:
    if journal.candidate is None or journal.state in {"idle", "committed", "rolling-back"}:
        return _to(journal, state="rolling-back"), GoBack(journal.active)
    verdict = Verdict(release=journal.candidate, reason=event.reason[:8192], at=event.at)
    tried = journal.state in {"activating", "probing"}
    if journal.state == "fetching":  # the slot is no more what it was
        journal = _to(journal, previous=None)
    noted = journal
    if event.blame or tried:  # a store out of reach is no verdict on the release
        noted = _to(noted, rollbacks=_with(journal.rollbacks, verdict))
    # With nothing to go back to, the same bundle is tried again: better than a device that is dead.
    if event.blame and journal.active is not None:
        noted = _to(noted, bad=_with(journal.bad, verdict))
    if journal.candidate == journal.previous:  # it was on its way back
        noted = _to(noted, held=None, previous=None if event.blame else journal.previous)
    if tried:
        return _to(noted, state="rolling-back"), GoBack(journal.active)
    return _finish(noted)


def _with(kept: tuple[Verdict, ...], verdict: Verdict) -> tuple[Verdict, ...]:
    return (*kept, verdict)[-_KEPT_VERDICTS:]


def _rest(journal: Journal) -> Journal:
    begun = {"target": None, "candidate": None, "attempts": 0, "blue_green": False}
    return _to(journal, state="idle", **begun)


def _candidate(journal: Journal) -> tuple[SlotName, Release]:
    if journal.target is None or journal.candidate is None:
        raise ForgeError(f"The device's journal in state {journal.state} names no candidate")
    return journal.target, journal.candidate


def _serve(slot: SlotName | None) -> Action:
    return Serve(slot) if slot else Wait()


def _to(journal: Journal, **changes: object) -> Journal:
    return journal.model_copy(update=changes)


_STEPS: Final[Mapping[tuple[State, type[Event]], Callable[[Journal], tuple[Journal, Action]]]] = {
    ("fetching", Fetched): _staged,
    ("activating", Ready): _probe,
    ("probing", Probed): _commit,
    ("committed", Switched): _finish,
    ("rolling-back", WentBack): _finish,
}
