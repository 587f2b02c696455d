"""The device's state machine: (journal, event) → (next journal, action). Pure.

    idle ─UpdateFound→ fetching ─Fetched→ staged ─Prepared→ activating ─Ready→ probing ─Probed→
        committed ─Switched→ idle
    fetching, staged      ─Failed→ idle                the active slot has not stopped serving
    fetching              ─Stopped→ idle               an operator's request has priority
    activating, probing   ─Failed→ rolling-back ─WentBack→ idle
    idle                  ─Crashed, the third in a row, or GoBackAsked→ activating the other slot,
                           if that has served
    any state             ─Started→ continues, or rolls back (a restart after a kill or power cut)

A restart of the agent is never the release's fault, for any cause: a power cut, a kill, an
operator. After MAX_ATTEMPTS starts of the agent in one activation the device rolls back all the
same, and the release waits: 1, 3, 7 … MAX_WAIT checks of the channel, each round longer than the
last. It is then tried once in a round, so that a release that takes the whole machine down costs
fewer and fewer restarts. The wait is in the journal, and ends early by another release or by
HoldLifted.

Activation is `swap` or `blue-green`, as the new release's settings say. In blue-green the active
slot serves during activating and probing, until the candidate is committed and gets its first
request; a rollback then stops the candidate only. A restart in between returns to staged, so that
the active slot serves again before the candidate is retried. After crashes there is nothing that
could serve during the activation: the other slot is activated as in a swap.

The journal is written durably before its action is executed, so any action may be executed twice.
"""

from __future__ import annotations

from typing import Final

from forge.device.shared.release import Release, SlotName, other
from forge.device.state_machine.actions import (
    Action,
    Activate,
    Fetch,
    GoBack,
    Prepare,
    Probe,
    Serve,
    Switch,
    Wait,
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
from forge.device.state_machine.journal import FailedRelease, InterruptedRelease, Journal
from forge.errors import ForgeError

__all__ = ["MAX_ATTEMPTS", "MAX_CRASHES", "MAX_WAIT", "STEADY_S", "next_state"]

MAX_ATTEMPTS: Final = 3  # starts of the agent during one activation, then the release waits
MAX_WAIT: Final = 1023  # checks of the channel: 17 hours at one a minute
MAX_CRASHES: Final = 3  # in a row, each within STEADY_S of its start
STEADY_S: Final = 300.0  # a server that ran this long did not exit for the previous one's reason
_KEPT_VERDICTS: Final = 32


def next_state(  # noqa: C901, PLR0911 - the whole table of transitions
    journal: Journal, event: MachineEvent
) -> tuple[Journal, Action]:
    """Return the journal to write and the action to execute then.

    Raises:
        ForgeError: this event is not possible in this state (a bug in the agent).
    """
    match journal.state, event:
        case _, Started():
            return _resume(journal, event)
        case _, Failed():
            return _fail(journal, event)
        case "idle", UpdateFound(release):
            return _begin(journal, release)
        case "idle", Crashed():
            return _crash(journal, event)
        case "idle", GoBackAsked():
            return _leave(journal, event)
        case "idle", HoldLifted():
            return _to(journal, held=None, interrupted=None), _serve(journal.active)
        case "fetching", Fetched():
            return _staged(journal)
        case "fetching", Stopped(restored):
            return _stop(journal, restored=restored)
        case "staged", Prepared():
            return _activate(journal, event)
        case "activating", Ready():
            return _probe(journal)
        case "probing", Probed():
            return _commit(journal)
        case ("committed", Switched()) | ("rolling-back", WentBack()):
            return _finish(journal)
    raise ForgeError(
        f"The device agent received {type(event).__name__} in state {journal.state}",
        why="this is a bug in Forge",
        hint="restart the agent, which continues from its journal, and please report the bug",
    )


def _begin(journal: Journal, release: Release) -> tuple[Journal, Action]:
    unwanted = journal.is_bad(release) or journal.is_held(release)
    if unwanted or release == journal.active_release:
        return journal, Wait()
    if waiting := _waiting(journal, release):
        return _one_check_less(journal, waiting), Wait()
    target = other(journal.active)
    slots = {slot: held for slot, held in journal.slots.items() if slot != target}
    # `previous` stays until the fetch is complete: the slot's content is set aside until then.
    begun = _to(journal, state="fetching", target=target, candidate=release, slots=slots)
    return begun, Fetch(release, target)


def _crash(journal: Journal, event: Crashed) -> tuple[Journal, Action]:
    if journal.active is None or journal.active_release is None:
        return journal, Wait()
    crashes = 1 if event.lived_s > STEADY_S else journal.crashes + 1
    counted = _to(journal, crashes=crashes)
    if crashes < MAX_CRASHES or journal.previous is None:
        return counted, Serve(journal.active)
    if waiting := _waiting(journal, journal.previous):
        return _one_check_less(counted, waiting), Serve(journal.active)
    reason = f"its server exited {crashes} times in a row: {event.reason}"[:8192]
    verdict = FailedRelease(release=journal.active_release, reason=reason, at=event.at)
    noted = _to(counted, rollbacks=_with(journal.rollbacks, verdict))
    if event.release_fault:
        noted = _to(noted, bad=_with(journal.bad, verdict))
    return _return(noted, journal.previous, blue_green=False)


def _leave(journal: Journal, event: GoBackAsked) -> tuple[Journal, Action]:
    if journal.active_release is None or journal.previous is None:
        return journal, Wait()
    held = FailedRelease(release=journal.active_release, reason=event.reason[:8192], at=event.at)
    held_back = _to(journal, held=held, interrupted=None)  # an operator waits for nothing
    return _return(held_back, journal.previous, blue_green=event.blue_green)


def _return(journal: Journal, previous: Release, *, blue_green: bool) -> tuple[Journal, Action]:
    """Activate the previous release; it is probed like any other."""
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
    committed = _to(_rest(journal), state="committed", active=slot, crashes=0, interrupted=None)
    if release != journal.previous:
        kept = left if left and not journal.is_bad(left) else None
        return _to(committed, previous=kept, held=None), Switch(slot)
    if journal.is_held(release):  # after crashes, the release that an operator left serves again
        committed = _to(committed, held=None)
    # A rollback: an operator may return to a release that was left by request, not to a bad one.
    if left is None or journal.is_bad(left):
        return _to(committed, previous=None), Switch(slot)
    if held := journal.is_held(left):
        committed = _to(committed, rollbacks=_with(journal.rollbacks, held))
        return _to(committed, previous=left), Switch(slot)
    # Its files are damaged, or it no longer fits.
    return _to(committed, previous=None), Switch(slot)


def _finish(journal: Journal) -> tuple[Journal, Action]:
    return _rest(journal), _serve(journal.active)


def _resume(journal: Journal, event: Started) -> tuple[Journal, Action]:
    if journal.state in {"staged", "activating", "probing"}:
        return _retry(journal, event)
    if journal.state == "committed" and journal.active:
        return journal, Switch(journal.active)
    if journal.state == "rolling-back":
        return journal, GoBack(journal.active)
    if journal.state == "fetching":  # a partial download is a seed; the channel may have changed
        journal = _to(journal, previous=None)
    return _finish(journal)


def _retry(journal: Journal, event: Started) -> tuple[Journal, Action]:
    """Try an interrupted candidate once more, or give it up for now."""
    slot, release = _candidate(journal)
    # An activation was counted when it began.
    interruptions = journal.attempts + (1 if journal.state == "staged" else 0)
    if journal.is_interrupted(release) or interruptions >= MAX_ATTEMPTS:
        return _give_up(journal, event, release, interruptions)
    if journal.state == "staged" or journal.blue_green:
        retried = _to(journal, state="staged", attempts=interruptions)
        return retried, Prepare(slot, serving=journal.active)
    return _activating(_to(journal, state="activating", attempts=interruptions + 1))


def _give_up(
    journal: Journal, event: Started, release: Release, interruptions: int
) -> tuple[Journal, Action]:
    """Roll back from a release that nothing is known against, and let it wait."""
    before = journal.is_interrupted(release)
    times = before.times + 1 if before else 1
    checks = min(2**times - 1, MAX_WAIT)
    counted = "once" if interruptions == 1 else f"{interruptions} times"
    reason = (
        f"its activation was interrupted {counted} (round {times}), last because"
        f" {event.cause or 'the agent ended'}; this does not count against the release, it is tried"
        f" again after {checks} more checks of the channel"
    )
    given_up = InterruptedRelease(
        release=release, times=times, checks=checks, reason=reason, at=event.at
    )
    failed = Failed(reason, event.at, release_fault=False)
    return _fail(_to(journal, interrupted=given_up), failed)


def _waiting(journal: Journal, release: Release) -> InterruptedRelease | None:
    """Return how long exactly this release waits; None if it may be tried."""
    given_up = journal.is_interrupted(release)
    return given_up if given_up and given_up.checks > 0 else None


def _one_check_less(journal: Journal, waiting: InterruptedRelease) -> Journal:
    return _to(journal, interrupted=waiting.model_copy(update={"checks": waiting.checks - 1}))


def _fail(journal: Journal, event: Failed) -> tuple[Journal, Action]:
    if journal.candidate is None or journal.state == "rolling-back":  # nothing is being tried
        return _to(journal, state="rolling-back"), GoBack(journal.active)
    verdict = FailedRelease(release=journal.candidate, reason=event.reason[:8192], at=event.at)
    tried = journal.state in {"activating", "probing"}
    if journal.state == "fetching":  # the slot's previous content is incomplete now
        journal = _to(journal, previous=None)
    noted = journal
    if event.release_fault or tried:  # an unreachable store says nothing about the release
        noted = _to(noted, rollbacks=_with(journal.rollbacks, verdict))
    # Without a release to roll back to, the same bundle is retried: the device has nothing else.
    if event.release_fault and journal.active is not None:
        noted = _to(noted, bad=_with(journal.bad, verdict))
    # The active release keeps serving, so it is not held, even if a rollback from it was requested.
    if journal.active_release is not None and journal.is_held(journal.active_release):
        noted = _to(noted, held=None)
    if event.release_fault:  # the failed candidate was `previous`, or that was overwritten
        noted = _to(noted, previous=None, interrupted=None)
    if tried:
        return _to(noted, state="rolling-back"), GoBack(journal.active)
    return _finish(noted)


def _with(kept: tuple[FailedRelease, ...], verdict: FailedRelease) -> tuple[FailedRelease, ...]:
    return (*kept, verdict)[-_KEPT_VERDICTS:]


def _rest(journal: Journal) -> Journal:
    begun = {"target": None, "candidate": None, "attempts": 0, "blue_green": False}
    return _to(journal, state="idle", **begun)


def _candidate(journal: Journal) -> tuple[SlotName, Release]:
    if journal.target is None or journal.candidate is None:
        raise ForgeError(f"The device journal has no candidate in state {journal.state}")
    return journal.target, journal.candidate


def _serve(slot: SlotName | None) -> Action:
    return Serve(slot) if slot else Wait()


def _to(journal: Journal, **changes: object) -> Journal:
    return journal.model_copy(update=changes)
