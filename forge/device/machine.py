"""The device's state machine: what happened → what to write down and what to do next. Pure.

    idle ─UpdateFound→ fetching ─Fetched→ staged ─Prepared→ activating ─Ready→ probing ─Probed→
        committed ─Switched→ idle
    fetching, staged      ─Failed→ idle                the active slot has never stopped serving
    activating, probing   ─Failed→ rolling-back ─WentBack→ idle
    any state             ─Started→ goes on, or goes back (a restart after a kill or power cut)

The journal is written, durably, before its action is done; so every action may be done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from forge.device.journal import Journal, Release, SlotName, State, Verdict, other
from forge.errors import ForgeError

__all__ = [
    "MAX_ATTEMPTS",
    "Action",
    "Activate",
    "Event",
    "Failed",
    "Fetch",
    "Fetched",
    "GoBack",
    "Prepare",
    "Prepared",
    "Probe",
    "Probed",
    "Ready",
    "Serve",
    "Started",
    "Switch",
    "Switched",
    "UpdateFound",
    "Wait",
    "WentBack",
    "next_state",
]

MAX_ATTEMPTS: Final = 3  # starts of the agent during one activation before it counts as failed
_KEPT_VERDICTS: Final = 32


@dataclass(frozen=True, slots=True)
class Started:
    """The agent's process has just begun."""

    at: str


@dataclass(frozen=True, slots=True)
class UpdateFound:
    """The channel names this release, and it fits."""

    release: Release


@dataclass(frozen=True, slots=True)
class Fetched:
    """The target slot holds the whole candidate, verified and durable."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The environment that serves the target slot is there."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The model of the target slot is loaded."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The target slot answered every golden prompt as it should."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The step under way did not work.

    Attributes:
        reason: for people, kept and shown.
        at: when, RFC 3339.
        blame: the release itself is at fault; not so for a broken network or a full disk.
    """

    reason: str
    at: str
    blame: bool


@dataclass(frozen=True, slots=True)
class Switched:
    """`current` points to the active slot."""


@dataclass(frozen=True, slots=True)
class WentBack:
    """Nothing of the candidate runs any more."""


Event: TypeAlias = (
    Started | UpdateFound | Fetched | Prepared | Ready | Probed | Failed | Switched | WentBack
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until the next look at the channel."""


@dataclass(frozen=True, slots=True)
class Serve:
    """See that this slot serves; it may already."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Fetch:
    """Put this release into this slot and verify it."""

    release: Release
    slot: SlotName


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the environment that serves this slot."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Activate:
    """Stop what serves, start this slot, wait until its model is loaded."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask this slot its golden prompts."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class Switch:
    """Point `current` to this slot."""

    slot: SlotName


@dataclass(frozen=True, slots=True)
class GoBack:
    """Stop the candidate; the slot that served before serves again, if there is one."""

    slot: SlotName | None


Action: TypeAlias = Wait | Serve | Fetch | Prepare | Activate | Probe | Switch | GoBack


def next_state(journal: Journal, event: Event) -> tuple[Journal, Action]:
    """The journal to write and the action to do then.

    Raises:
        ForgeError: this event cannot happen in this state (a mistake in the agent).
    """
    if isinstance(event, Started):
        return _resume(journal, event.at)
    if isinstance(event, Failed):
        return _fail(journal, event)
    if isinstance(event, UpdateFound) and journal.state == "idle":
        return _begin(journal, event.release)
    step = _STEPS.get((journal.state, type(event)))
    if step is None:
        name = type(event).__name__
        raise ForgeError(
            f"The device's agent got {name} in state {journal.state}",
            why="this is a mistake in Forge",
            hint="restart the agent, it goes on from its journal; please report this",
        )
    return step(journal)


def _begin(journal: Journal, release: Release) -> tuple[Journal, Action]:
    if journal.is_bad(release) or release == journal.active_release:
        return journal, Wait()
    target = other(journal.active)
    slots = {slot: held for slot, held in journal.slots.items() if slot != target}
    begun = _to(journal, state="fetching", target=target, candidate=release, slots=slots)
    return begun, Fetch(release, target)


def _staged(journal: Journal) -> tuple[Journal, Action]:
    slot, release = _candidate(journal)
    return _to(journal, state="staged", slots={**journal.slots, slot: release}), Prepare(slot)


def _activate(journal: Journal) -> tuple[Journal, Action]:
    slot, _ = _candidate(journal)
    return _to(journal, state="activating", attempts=1), Activate(slot)


def _probe(journal: Journal) -> tuple[Journal, Action]:
    slot, _ = _candidate(journal)
    return _to(journal, state="probing"), Probe(slot)


def _commit(journal: Journal) -> tuple[Journal, Action]:
    slot, _ = _candidate(journal)
    return _to(_rest(journal), state="committed", active=slot), Switch(slot)


def _finish(journal: Journal) -> tuple[Journal, Action]:
    return _rest(journal), _serve(journal.active)


def _resume(journal: Journal, at: str) -> tuple[Journal, Action]:
    if journal.state in {"activating", "probing"}:
        slot, _ = _candidate(journal)
        if journal.attempts >= MAX_ATTEMPTS:
            reason = f"the agent ended {journal.attempts} times while it tried this bundle"
            return _fail(journal, Failed(reason, at, blame=True))
        again = _to(journal, state="activating", attempts=journal.attempts + 1)
        return again, Activate(slot)
    if journal.state == "staged":
        return journal, Prepare(_candidate(journal)[0])
    if journal.state == "committed" and journal.active:
        return journal, Switch(journal.active)
    if journal.state == "rolling-back":
        return journal, GoBack(journal.active)
    # idle; or fetching: what came so far stays in the slot as a seed, the channel may have moved.
    return _finish(journal)


def _fail(journal: Journal, event: Failed) -> tuple[Journal, Action]:
    if journal.candidate is None or journal.state in {"idle", "committed", "rolling-back"}:
        return _to(journal, state="rolling-back"), GoBack(journal.active)
    verdict = Verdict(release=journal.candidate, reason=event.reason[:8192], at=event.at)
    tried = journal.state in {"activating", "probing"}
    noted = journal
    if event.blame or tried:  # a store out of reach is no verdict on the release
        noted = _to(noted, rollbacks=(*journal.rollbacks, verdict)[-_KEPT_VERDICTS:])
    # With nothing to go back to, the same bundle is tried again: better than a device that is dead.
    if event.blame and journal.active is not None:
        noted = _to(noted, bad=(*journal.bad, verdict)[-_KEPT_VERDICTS:])
    if tried:
        return _to(noted, state="rolling-back"), GoBack(journal.active)
    return _finish(noted)


def _rest(journal: Journal) -> Journal:
    return _to(journal, state="idle", target=None, candidate=None, attempts=0)


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
    ("staged", Prepared): _activate,
    ("activating", Ready): _probe,
    ("probing", Probed): _commit,
    ("committed", Switched): _finish,
    ("rolling-back", WentBack): _finish,
}
