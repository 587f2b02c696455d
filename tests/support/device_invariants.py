"""What must be true of a device at every moment, whatever happened to it."""

from __future__ import annotations

from typing import Final

from forge.device.shared.release import SLOTS, other
from forge.device.state_machine.actions import Action, Activate, Fetch, Prepare, Probe
from forge.device.state_machine.events import Failed, Started, UpdateFound
from forge.device.state_machine.journal import Journal
from forge.device.state_machine.transitions import MAX_ATTEMPTS, MAX_WAIT
from tests.support.abstract_device import NUMBERS
from tests.support.explorer import Invariants, Situation, Step

__all__ = ["INVARIANTS"]

_TRYING: Final = frozenset({"staged", "activating", "probing"})


def the_slot_that_served_last_is_never_lost(now: Situation) -> bool:
    last = now.world.last
    if last < 0:
        return now.view.active == last
    slot = now.world.slots[last]
    return now.view.active == last and slot.served and now.claims.slots[last] == slot.release


def current_leads_to_a_slot_that_served(now: Situation) -> bool:
    return now.world.current < 0 or now.world.slots[now.world.current].served


def only_what_passed_its_probe_gets_requests(now: Situation) -> bool:
    live = now.world.live
    return live < 0 or (now.world.up[live] and now.world.slots[live].served)


def a_bad_release_is_not_tried_twice(now: Situation) -> bool:
    match now.action:
        case Fetch(release):
            return not now.world.condemned >> NUMBERS[release.manifest] & 1
        case Prepare(slot) | Activate(slot) | Probe(slot):
            return not now.world.condemned >> now.world.slots[SLOTS.index(slot)].release & 1
        case _:
            return True


def exactly_those_releases_are_bad_that_got_a_verdict(now: Situation) -> bool:
    return now.claims.bad == now.world.condemned


def exactly_that_release_is_held_that_was_left_by_hand(now: Situation) -> bool:
    return now.claims.held == now.world.held


def what_serves_is_not_held_back(now: Situation) -> bool:
    if now.view.state != "idle" or now.view.active < 0:
        return True
    return now.claims.held != now.claims.slots[now.view.active] or now.claims.held == 0


def there_are_never_two_activations_at_once(now: Situation) -> bool:
    """What runs is what was committed, and the one candidate while it is tried."""
    candidates = {index for index in (0, 1) if now.world.up[index] and index != now.world.last}
    at_rest = now.view.state == "idle" and now.action is None
    if at_rest or now.view.state == "fetching":  # only what cannot serve itself lets another run
        return not candidates or not now.world.up[now.world.last]
    if now.view.state in {"staged", "activating", "probing"}:
        return candidates <= {now.view.target}
    return len(candidates) <= 1


def a_candidate_is_started_in_the_slot_that_does_not_serve(now: Situation) -> bool:
    match now.action:
        case Activate(slot, beside):
            index = SLOTS.index(slot)
            beside_last = beside is None or SLOTS.index(beside) == now.world.last
            return index != now.world.last and beside_last
        case Probe(slot) | Prepare(slot) | Fetch(_, slot):
            return SLOTS.index(slot) != now.world.last
        case _:
            return True


def the_way_back_leads_to_what_served(now: Situation) -> bool:
    if now.view.state != "idle" or now.claims.previous == 0:
        return True
    slot = now.world.slots[1 - now.view.active]
    return slot.release == now.claims.previous and slot.served


def the_journal_says_what_the_slots_hold(now: Situation) -> bool:
    pairs = zip(now.claims.slots, now.world.slots, strict=True)
    return all(said in {0, slot.release} for said, slot in pairs)


def every_start_of_a_candidate_is_counted_and_there_are_three(step: Step) -> bool:
    if not isinstance(step.action, Activate):
        return True
    begun = step.before.attempts if step.before.state != "idle" else 0
    return begun < MAX_ATTEMPTS and step.after.attempts == begun + 1


def a_restart_makes_no_release_bad(step: Step) -> bool:
    return not isinstance(step.event, Started) or step.after.bad == step.before.bad


def a_candidate_is_given_up_for_now_after_three_interruptions_and_later_after_one(
    step: Step,
) -> bool:
    before = step.before
    if not isinstance(step.event, Started) or before.state not in _TRYING:
        return True
    assert before.candidate is not None
    known = before.is_interrupted(before.candidate)
    restarts = before.attempts + (before.state == "staged")
    goes_on = isinstance(step.action, Prepare | Activate)
    if known is None and restarts < MAX_ATTEMPTS:
        return goes_on and step.after.interrupted == before.interrupted
    late, rounds = step.after.interrupted, known.times + 1 if known else 1
    if goes_on or late is None or late.release != before.candidate:
        return False
    return (late.times, late.checks) == (rounds, min(2**rounds - 1, MAX_WAIT))


def a_release_that_waits_is_not_fetched_and_each_offer_shortens_its_wait(step: Step) -> bool:
    match step.event:
        case UpdateFound(release) if late := step.before.is_interrupted(release):
            refused = step.before.is_bad(release) or step.before.is_held(release)
            if refused or release == step.before.active_release or late.checks == 0:
                return step.after.interrupted == late
            shorter = late.model_copy(update={"checks": late.checks - 1})
            return step.after.interrupted == shorter and not isinstance(step.action, Fetch)
        case _:
            return True


def an_idle_device_has_no_candidate(step: Step) -> bool:
    after, nothing = step.after, (None, None, 0, False)
    found = after.target, after.candidate, after.attempts, after.blue_green
    return after.state != "idle" or found == nothing


def what_was_tried_and_not_kept_is_told(step: Step) -> bool:
    match step.before.state, step.event:
        case "activating" | "probing", Failed(reason):
            pass
        case "fetching" | "staged", Failed(reason, release_fault=True):
            pass
        case _:
            return True
    last = step.after.rollbacks[-1:]
    return [(one.release, one.reason) for one in last] == [(step.before.candidate, reason)]


def every_answer_is_a_journal_and_an_action(step: Step) -> bool:
    answer: tuple[object, object] = (step.after, step.action)  # a wrong program may say anything
    return isinstance(answer[0], Journal) and isinstance(answer[1], Action)


def the_journal_can_be_read_again(step: Step) -> bool:
    return Journal.model_validate_json(step.after.model_dump_json()) == step.after


def an_update_goes_to_the_other_slot(step: Step) -> bool:
    after = step.after
    if after.target is None:
        return True
    return after.target == other(after.active)


INVARIANTS: Final = Invariants(
    steps=(
        every_answer_is_a_journal_and_an_action,
        every_start_of_a_candidate_is_counted_and_there_are_three,
        a_restart_makes_no_release_bad,
        a_candidate_is_given_up_for_now_after_three_interruptions_and_later_after_one,
        a_release_that_waits_is_not_fetched_and_each_offer_shortens_its_wait,
        an_idle_device_has_no_candidate,
        what_was_tried_and_not_kept_is_told,
        the_journal_can_be_read_again,
        an_update_goes_to_the_other_slot,
    ),
    situations=(
        the_slot_that_served_last_is_never_lost,
        current_leads_to_a_slot_that_served,
        only_what_passed_its_probe_gets_requests,
        a_bad_release_is_not_tried_twice,
        exactly_those_releases_are_bad_that_got_a_verdict,
        exactly_that_release_is_held_that_was_left_by_hand,
        what_serves_is_not_held_back,
        there_are_never_two_activations_at_once,
        a_candidate_is_started_in_the_slot_that_does_not_serve,
        the_way_back_leads_to_what_served,
        the_journal_says_what_the_slots_hold,
    ),
)
