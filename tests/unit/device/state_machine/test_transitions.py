"""Every state with every event, and what the walk through them keeps true."""

from __future__ import annotations

import random
from typing import get_args

import pytest

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
from forge.device.state_machine.journal import (
    FailedRelease,
    InterruptedRelease,
    Journal,
    UpdateState,
)
from forge.device.state_machine.transitions import (
    MAX_ATTEMPTS,
    MAX_CRASHES,
    MAX_WAIT,
    STEADY_S,
    next_state,
)
from forge.errors import ForgeError

AT = "2026-11-24T00:00:00Z"
STATES: tuple[UpdateState, ...] = get_args(UpdateState)


def release(version: str) -> Release:
    return Release(name="llm", version=version, profile="development", manifest=f"{version:0>64}")


OLD, NEW, NEXT = release("1"), release("2"), release("3")

STARTED = Started(AT)
RELEASE_FAULT = Failed("answered Berlin", AT, release_fault=True)
OTHER_FAULT = Failed("the store is gone", AT, release_fault=False)
FOUND = UpdateFound(NEW)
CRASHED = Crashed("it ran out of memory", AT, 3.0, release_fault=True)
DAMAGED = Crashed("slot a is damaged", AT, 0.0, release_fault=False)
ASKED = GoBackAsked("too slow", AT)
LIFTED = HoldLifted()
BLUE_GREEN = Prepared(blue_green=True)
ASKED_BLUE_GREEN = GoBackAsked("too slow", AT, blue_green=True)
EVENTS: tuple[MachineEvent, ...] = (
    STARTED, FOUND, Fetched(), Prepared(), Ready(), Probed(), Switched(), WentBack(), RELEASE_FAULT,
    OTHER_FAULT, CRASHED, DAMAGED, ASKED, LIFTED, BLUE_GREEN, ASKED_BLUE_GREEN,
    Stopped(restored=True), Stopped(restored=False),
)  # fmt: skip


def journal(state: UpdateState, *, first: bool = False) -> Journal:
    """A journal as it is in this state, with an old release in slot a unless it is the first."""
    slots: dict[SlotName, Release] = {} if first else {"a": OLD}
    active: SlotName | None = None if first else "a"
    target: SlotName = "a" if first else "b"
    if state == "committed":
        return Journal(state=state, active=target, slots={**slots, target: NEW})
    if state == "idle":
        return Journal(active=active, slots=slots)
    held = slots if state == "fetching" else {**slots, target: NEW}
    attempts = 1 if state in {"activating", "probing"} else 0
    return Journal(
        state=state, active=active, target=target, candidate=NEW, slots=held, attempts=attempts
    )


# (state, event) → (state after, action), with slot a active and an update going to slot b.
EXPECTED: dict[tuple[UpdateState, MachineEvent], tuple[UpdateState, Action]] = {
    ("idle", STARTED): ("idle", Serve("a")),
    ("idle", FOUND): ("fetching", Fetch(NEW, "b")),
    ("idle", RELEASE_FAULT): ("rolling-back", GoBack("a")),
    ("idle", OTHER_FAULT): ("rolling-back", GoBack("a")),
    ("idle", CRASHED): ("idle", Serve("a")),
    ("idle", DAMAGED): ("idle", Serve("a")),
    ("idle", ASKED): ("idle", Wait()),  # nothing to go back to
    ("idle", ASKED_BLUE_GREEN): ("idle", Wait()),
    ("idle", LIFTED): ("idle", Serve("a")),
    ("fetching", STARTED): ("idle", Serve("a")),
    ("fetching", Fetched()): ("staged", Prepare("b")),
    ("fetching", RELEASE_FAULT): ("idle", Serve("a")),
    ("fetching", OTHER_FAULT): ("idle", Serve("a")),
    ("fetching", Stopped(restored=True)): ("idle", Serve("a")),
    ("fetching", Stopped(restored=False)): ("idle", Serve("a")),
    ("staged", STARTED): ("staged", Prepare("b", serving="a")),
    ("staged", Prepared()): ("activating", Activate("b")),
    ("staged", BLUE_GREEN): ("activating", Activate("b", serving="a")),
    ("staged", RELEASE_FAULT): ("idle", Serve("a")),
    ("staged", OTHER_FAULT): ("idle", Serve("a")),
    ("activating", STARTED): ("activating", Activate("b")),
    ("activating", Ready()): ("probing", Probe("b")),
    ("activating", RELEASE_FAULT): ("rolling-back", GoBack("a")),
    ("activating", OTHER_FAULT): ("rolling-back", GoBack("a")),
    ("probing", STARTED): ("activating", Activate("b")),
    ("probing", Probed()): ("committed", Switch("b")),
    ("probing", RELEASE_FAULT): ("rolling-back", GoBack("a")),
    ("probing", OTHER_FAULT): ("rolling-back", GoBack("a")),
    ("committed", STARTED): ("committed", Switch("b")),
    ("committed", Switched()): ("idle", Serve("b")),
    ("committed", RELEASE_FAULT): ("rolling-back", GoBack("b")),
    ("committed", OTHER_FAULT): ("rolling-back", GoBack("b")),
    ("rolling-back", STARTED): ("rolling-back", GoBack("a")),
    ("rolling-back", WentBack()): ("idle", Serve("a")),
    ("rolling-back", RELEASE_FAULT): ("rolling-back", GoBack("a")),
    ("rolling-back", OTHER_FAULT): ("rolling-back", GoBack("a")),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_state_with_every_event(state: UpdateState, event: MachineEvent) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(ForgeError, match=f"in state {state}"):
            next_state(journal(state), event)
        return
    after, action = next_state(journal(state), event)
    assert (after.state, action) == expected
    assert Journal.model_validate_json(after.model_dump_json()) == after


@pytest.mark.parametrize("state", ["activating", "probing"])
def test_a_blamed_release_is_remembered_with_its_reason(state: UpdateState) -> None:
    after, _ = next_state(journal(state), RELEASE_FAULT)
    assert [verdict.reason for verdict in after.rollbacks] == ["answered Berlin"]
    assert after.is_bad(NEW) is not None
    idle, _ = next_state(after, WentBack())
    assert next_state(idle, UpdateFound(NEW)) == (idle, Wait())


def test_a_good_release_after_a_bad_one_is_fetched() -> None:
    after, _ = next_state(journal("probing"), RELEASE_FAULT)
    idle, _ = next_state(after, WentBack())
    fetching, action = next_state(idle, UpdateFound(NEXT))
    assert (fetching.state, action) == ("fetching", Fetch(NEXT, "b"))


def test_a_failure_that_is_not_the_releases_fault_is_tried_again() -> None:
    idle, _ = next_state(journal("fetching"), OTHER_FAULT)
    assert idle.rollbacks == ()
    assert next_state(idle, UpdateFound(NEW))[1] == Fetch(NEW, "b")


def test_a_failed_first_install_is_tried_again() -> None:
    after, action = next_state(journal("probing", first=True), RELEASE_FAULT)
    assert action == GoBack(None)
    idle, action = next_state(after, WentBack())
    assert (idle.state, action, idle.active) == ("idle", Wait(), None)
    assert idle.rollbacks[-1].reason == "answered Berlin"
    assert next_state(idle, UpdateFound(NEW))[1] == Fetch(NEW, "a")


POWER = Started(AT, "the machine lost power")


@pytest.mark.parametrize("state", ["activating", "probing"])
def test_an_activation_that_is_interrupted_three_times_is_given_up_for_now(
    state: UpdateState,
) -> None:
    current = journal(state)
    for _ in range(MAX_ATTEMPTS - 1):
        current, action = next_state(current, POWER)
        assert action == Activate("b")
        assert current.interrupted is None
    current, action = next_state(current, POWER)
    assert (current.state, action) == ("rolling-back", GoBack("a"))
    reason = (
        "its activation was interrupted 3 times (round 1), last because the machine lost power;"
        " this does not count against the release, it is tried again after 1 more checks of the"
        " channel"
    )
    assert current.rollbacks == (FailedRelease(release=NEW, reason=reason, at=AT),)
    assert current.bad == ()
    assert current.interrupted == InterruptedRelease(
        release=NEW, times=1, checks=1, reason=reason, at=AT
    )


def given_up(times: int, checks: int) -> Journal:
    """A device that has given NEW up for now."""
    late = InterruptedRelease(release=NEW, times=times, checks=checks, reason="power", at=AT)
    return journal("idle").model_copy(update={"interrupted": late})


def test_a_release_that_was_given_up_for_now_is_tried_again_after_its_checks() -> None:
    current, action = next_state(given_up(2, 3), FOUND)
    assert (current, action) == (given_up(2, 2), Wait())
    current, action = walk(current, FOUND, FOUND)
    assert (current, action) == (given_up(2, 0), Wait())
    assert walk(current, STARTED)[0] == given_up(2, 0)
    current, action = next_state(current, FOUND)
    assert action == Fetch(NEW, "b")
    current, _ = walk(current, Fetched(), Prepared(), Ready(), Probed(), Switched())
    assert (current.active_release, current.interrupted) == (NEW, None)


@pytest.mark.parametrize(
    ("times", "checks"),
    [(1, 3), (2, 7), (3, 15), (8, 511), (9, 1023), (10, 1023), (500, MAX_WAIT)],
)
@pytest.mark.parametrize("events", [(), (Prepared(),), (Prepared(), Ready()), (BLUE_GREEN,)])
def test_later_one_interruption_is_enough_and_the_wait_grows(
    times: int, checks: int, events: tuple[MachineEvent, ...]
) -> None:
    current, _ = walk(given_up(times, 0), FOUND, Fetched(), *events)
    current, _ = next_state(current, POWER)
    late = current.is_interrupted(NEW)
    assert late is not None
    assert (late.times, late.checks) == (times + 1, checks)
    counted = f"interrupted once (round {times + 1}), last because the machine lost power; "
    assert counted in late.reason
    assert current.bad == ()


def test_another_release_does_not_wait_for_the_one_that_was_interrupted() -> None:
    current, action = next_state(given_up(3, 7), UpdateFound(NEXT))
    assert action == Fetch(NEXT, "b")
    assert current.interrupted == given_up(3, 7).interrupted
    current, action = walk(current, Fetched(), Prepared(), POWER, POWER)
    assert action == Activate("b")  # it has interruptions of its own
    current, _ = walk(current, POWER)
    assert current.is_interrupted(NEXT)
    assert current.is_interrupted(NEW) is None


def test_a_release_at_fault_no_longer_waits() -> None:
    current, _ = walk(given_up(1, 0), FOUND, Fetched(), Prepared(), RELEASE_FAULT, WentBack())
    assert (current.is_bad(NEW) is not None, current.interrupted) == (True, None)
    current, _ = walk(given_up(1, 0), FOUND, Fetched(), Prepared(), OTHER_FAULT, WentBack())
    assert (current.bad, current.interrupted) == ((), given_up(1, 0).interrupted)


def test_an_interrupted_release_is_tried_at_once_when_an_operator_says_so() -> None:
    current, action = next_state(given_up(4, 15), LIFTED)
    assert (current, action) == (journal("idle"), Serve("a"))


def test_preparing_that_is_interrupted_three_times_is_given_up_and_the_old_slot_serves() -> None:
    current, action = walk(journal("staged"), POWER, POWER)
    assert (current.state, current.attempts, action) == ("staged", 2, Prepare("b", serving="a"))
    activating, _ = walk(current, Prepared(), POWER)
    assert activating.state == "rolling-back"
    current, action = next_state(current, POWER)
    assert (current.state, action) == ("idle", Serve("a"))
    assert (current.rollbacks, current.bad) == ((), ())
    late = current.is_interrupted(NEW)
    assert late is not None
    assert "interrupted 3 times" in late.reason


def test_a_first_install_that_is_interrupted_three_times_waits_as_well() -> None:
    current, action = walk(journal("activating", first=True), POWER, POWER, POWER, WentBack())
    assert (current.state, current.active, action) == ("idle", None, Wait())
    current, action = next_state(current, FOUND)
    assert action == Wait()
    assert next_state(current, FOUND)[1] == Fetch(NEW, "a")


def test_a_way_back_that_takes_the_machine_down_is_not_taken_after_each_crash() -> None:
    crashed, _ = walk(updated(), *[CRASHED] * MAX_CRASHES, POWER, POWER, POWER, WentBack())
    assert (crashed.active_release, crashed.previous, crashed.bad) == (NEW, OLD, crashed.bad[:1])
    assert crashed.is_interrupted(OLD)
    told = crashed.rollbacks
    waits, action = next_state(crashed, CRASHED)
    assert (waits.state, action, waits.rollbacks) == ("idle", Serve("b"), told)
    back, action = next_state(waits, CRASHED)
    assert (back.state, action) == ("activating", Activate("a"))


def test_an_operator_who_goes_back_waits_for_nothing() -> None:
    crashed, _ = walk(updated(), *[CRASHED] * MAX_CRASHES, POWER, POWER, POWER, WentBack())
    asked, action = next_state(crashed, ASKED)
    assert (action, asked.interrupted) == (Activate("a"), None)


def blue_green(state: UpdateState) -> Journal:
    """A journal as it is in this state of a blue-green activation."""
    return journal(state).model_copy(update={"blue_green": True})


@pytest.mark.parametrize("state", ["activating", "probing"])
def test_a_restart_in_blue_green_lets_the_old_slot_serve_before_the_new_one_is_tried(
    state: UpdateState,
) -> None:
    current, action = next_state(blue_green(state), STARTED)
    assert (current.state, action) == ("staged", Prepare("b", serving="a"))
    current, action = next_state(current, BLUE_GREEN)
    assert (current.state, action) == ("activating", Activate("b", serving="a"))
    assert current.attempts == 2


def test_a_blue_green_activation_that_is_interrupted_three_times_is_given_up_for_now() -> None:
    current = blue_green("activating")
    for _ in range(MAX_ATTEMPTS - 1):
        current, _ = walk(current, STARTED, BLUE_GREEN)
    assert current.attempts == MAX_ATTEMPTS
    current, action = next_state(current, STARTED)
    assert (current.state, action) == ("rolling-back", GoBack("a"))
    assert "interrupted 3 times" in current.rollbacks[-1].reason
    assert current.bad == ()


@pytest.mark.parametrize("events", [(RELEASE_FAULT, WentBack()), (Ready(), Probed(), Switched())])
def test_the_next_activation_does_not_inherit_blue_green(events: tuple[MachineEvent, ...]) -> None:
    current, _ = walk(blue_green("activating"), *events)
    assert (current.state, current.blue_green) == ("idle", False)
    _, action = walk(current, UpdateFound(NEXT), Fetched(), Prepared())
    assert isinstance(action, Activate)
    assert action.serving is None


def test_a_first_install_has_nothing_to_be_started_beside() -> None:
    current, action = next_state(journal("staged", first=True), BLUE_GREEN)
    assert action == Activate("a")
    assert next_state(current, STARTED)[1] == Activate("a")


def test_going_back_by_hand_in_blue_green_lets_the_newer_one_serve_meanwhile() -> None:
    current, action = next_state(updated(), ASKED_BLUE_GREEN)
    assert (current.state, action) == ("activating", Activate("a", serving="b"))
    again, action = next_state(current, STARTED)
    assert (again.state, action) == ("staged", Prepare("a", serving="b"))
    current, _ = walk(again, BLUE_GREEN, Ready(), Probed(), Switched())
    assert current.active_release == OLD
    assert current.is_held(NEW)


def test_going_back_after_crashes_starts_nothing_of_what_crashed() -> None:
    current, action = walk(updated(), *[CRASHED] * MAX_CRASHES)
    assert action == Activate("a")
    assert next_state(current, STARTED)[1] == Activate("a")


def test_a_journal_from_before_blue_green_is_a_swap() -> None:
    old = journal("probing").model_dump(mode="json", exclude={"blue_green"})
    assert next_state(Journal.model_validate(old), STARTED)[1] == Activate("b")


def test_what_serves_already_is_not_fetched_again() -> None:
    idle = journal("idle")
    assert next_state(idle, UpdateFound(OLD)) == (idle, Wait())


def test_a_slot_that_is_being_filled_counts_as_empty() -> None:
    idle = Journal(active="a", slots={"a": OLD, "b": NEXT})
    fetching, _ = next_state(idle, FOUND)
    assert fetching.slots == {"a": OLD}


def test_the_active_slot_changes_by_a_probe_that_passed_and_by_nothing_else() -> None:
    dice = random.Random(20261124)  # noqa: S311 - reproducible, not secret
    for _ in range(300):
        current, version, passed = Journal(), 0, None
        served: list[Release | None] = []
        for _ in range(40):
            before = current
            event = dice.choice(EVENTS)
            if isinstance(event, UpdateFound):
                version += 1
                event = UpdateFound(release(str(version)))
            try:
                current, _ = next_state(current, event)
            except ForgeError:
                continue
            if isinstance(event, Probed):
                passed = before.candidate
                served.append(passed)
            assert current.active_release == passed
            assert current.previous is None or current.previous in served
            if current.previous is not None and current.state == "idle":
                assert current.slots[other(current.active)] == current.previous
            assert current.target is None or current.target != current.active
            Journal.model_validate_json(current.model_dump_json())


def updated() -> Journal:
    """A device that was updated from OLD in slot a to NEW in slot b."""
    current = journal("probing")
    for event in (Probed(), Switched()):
        current, _ = next_state(current, event)
    assert (current.active_release, current.previous) == (NEW, OLD)
    return current


def walk(current: Journal, *events: MachineEvent) -> tuple[Journal, Action]:
    action: Action = Wait()
    for event in events:
        current, action = next_state(current, event)
    return current, action


def test_the_third_crash_in_a_row_goes_back_and_the_release_counts_as_bad() -> None:
    current, action = walk(updated(), *[CRASHED] * (MAX_CRASHES - 1))
    assert (current.state, action) == ("idle", Serve("b"))
    current, action = next_state(current, CRASHED)
    assert (current.state, action) == ("activating", Activate("a"))
    current, action = walk(current, Ready(), Probed(), Switched())
    assert (current.active_release, action) == (OLD, Serve("a"))
    verdict = current.is_bad(NEW)
    assert verdict is not None
    assert verdict.reason == "its server exited 3 times in a row: it ran out of memory"
    assert current.rollbacks == (verdict,)
    assert current.crashes == 0
    assert current.previous is None  # not to the bad one again
    assert next_state(current, UpdateFound(NEW)) == (current, Wait())
    assert next_state(current, UpdateFound(NEXT))[1] == Fetch(NEXT, "b")


def test_crashes_far_apart_are_not_in_a_row() -> None:
    late = Crashed("it ran out of memory", AT, STEADY_S + 1, release_fault=True)
    current, action = walk(updated(), CRASHED, CRASHED, late, CRASHED)
    assert (current.state, current.crashes, action) == ("idle", 2, Serve("b"))


def test_crashes_survive_a_restart_of_the_agent() -> None:
    current, _ = walk(updated(), CRASHED, CRASHED)
    again = Journal.model_validate_json(current.model_dump_json())
    assert walk(again, STARTED, CRASHED)[1] == Activate("a")


def test_crashes_without_another_slot_are_borne() -> None:
    current, action = walk(journal("idle"), *[CRASHED] * 10)
    assert (current.state, action, current.bad) == ("idle", Serve("a"), ())


def test_a_slot_that_never_served_is_not_gone_back_to() -> None:
    # NEW was tried and failed through no fault of its own: slot b holds it, unproved.
    current, _ = walk(journal("probing"), OTHER_FAULT, WentBack(), CRASHED, CRASHED, CRASHED)
    assert current.slots == {"a": OLD, "b": NEW}
    assert (current.state, current.active) == ("idle", "a")


def test_a_damaged_slot_is_left_without_blame_and_its_release_comes_again() -> None:
    current, action = walk(updated(), *[DAMAGED] * MAX_CRASHES, Ready(), Probed())
    assert (current.active_release, current.bad, action) == (OLD, (), Switch("a"))
    current, _ = next_state(current, Switched())
    assert [verdict.release for verdict in current.rollbacks] == [NEW]
    assert current.previous is None
    assert next_state(current, UpdateFound(NEW))[1] == Fetch(NEW, "b")


def test_going_back_that_fails_leaves_what_serves() -> None:
    current, action = walk(updated(), *[CRASHED] * MAX_CRASHES, Ready(), RELEASE_FAULT, WentBack())
    assert (current.active_release, action) == (NEW, Serve("b"))
    assert current.is_bad(OLD)
    assert current.previous is None
    assert walk(current, *[CRASHED] * 5)[0].state == "idle"


def test_what_is_bad_is_no_way_back_after_the_next_update() -> None:
    # NEW crashed and OLD did not work either: NEW serves on, and is bad.
    current, _ = walk(
        updated(), *[CRASHED] * MAX_CRASHES, RELEASE_FAULT, WentBack(), UpdateFound(NEXT)
    )
    current, _ = walk(current, Fetched(), Prepared(), Ready(), Probed(), Switched())
    assert (current.active_release, current.previous) == (NEXT, None)


def test_what_is_bad_is_no_way_back_after_it_was_left_by_hand() -> None:
    current, _ = walk(updated(), *[CRASHED] * MAX_CRASHES, OTHER_FAULT, WentBack())
    assert (current.active_release, current.previous) == (NEW, OLD)
    current, action = walk(current, ASKED, Ready(), Probed())
    assert (current.active_release, current.previous, action) == (OLD, None, Switch("a"))


def test_a_first_install_has_no_way_back_whatever_is_bad() -> None:
    bad = (FailedRelease(release=OLD, reason="answered Berlin", at=AT),)
    current, _ = next_state(
        journal("probing", first=True).model_copy(update={"bad": bad}), Probed()
    )
    assert (current.state, current.previous) == ("committed", None)


@pytest.mark.parametrize("event", [CRASHED, ASKED])
@pytest.mark.parametrize(
    "unknown", [Journal(), Journal(active="b"), Journal(active="b", previous=OLD)]
)
def test_what_serves_unknown_is_neither_counted_nor_left(
    unknown: Journal, event: MachineEvent
) -> None:
    assert next_state(unknown, event) == (unknown, Wait())


@pytest.mark.parametrize(("lived_s", "crashes"), [(299.9, 3), (300.0, 3), (300.1, 1)])
def test_a_server_that_ended_within_five_minutes_ended_soon(lived_s: float, crashes: int) -> None:
    current, _ = walk(
        journal("idle"), CRASHED, CRASHED, Crashed("", AT, lived_s, release_fault=True)
    )
    assert current.crashes == crashes


def test_the_newest_32_verdicts_are_kept() -> None:
    current = journal("idle")
    for version in range(2, 42):
        current, _ = walk(current, UpdateFound(release(str(version))), RELEASE_FAULT)
    newest = [str(version) for version in range(10, 42)]
    assert [one.release.version for one in current.rollbacks] == newest
    assert [one.release.version for one in current.bad] == newest


def test_a_reason_of_any_length_can_be_read_again() -> None:
    text = "x" * 10_000
    failed, _ = next_state(journal("probing"), Failed(text, AT, release_fault=True))
    asked, _ = next_state(updated(), GoBackAsked(text, AT))
    crashed, _ = walk(updated(), *[Crashed(text, AT, 0.0, release_fault=True)] * MAX_CRASHES)
    assert asked.held is not None
    for verdict in (*failed.bad, *failed.rollbacks, asked.held, *crashed.bad):
        assert len(verdict.reason) == 8192
    for one in (failed, asked, crashed):
        assert Journal.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize("lost", ["target", "candidate"])
def test_a_journal_without_its_candidate_is_refused(lost: str) -> None:
    with pytest.raises(ForgeError, match="no candidate in state fetching"):
        next_state(journal("fetching").model_copy(update={lost: None}), Fetched())


def test_a_release_that_is_refused_before_it_is_tried_is_told_and_bad() -> None:
    current, _ = next_state(journal("fetching"), RELEASE_FAULT)
    assert [(one.release, one.reason) for one in current.rollbacks] == [(NEW, RELEASE_FAULT.reason)]
    assert current.is_bad(NEW)


def test_going_back_by_hand_is_probed_and_holds_what_was_left() -> None:
    current, action = next_state(updated(), ASKED)
    assert (current.state, action) == ("activating", Activate("a"))
    current, action = walk(current, Ready(), Probed(), Switched())
    assert (current.active_release, action) == (OLD, Serve("a"))
    assert [(one.release, one.reason) for one in current.rollbacks] == [(NEW, "too slow")]
    assert current.bad == ()
    assert next_state(current, UpdateFound(NEW)) == (current, Wait())
    assert next_state(current, UpdateFound(NEXT))[1] == Fetch(NEXT, "b")


def test_a_newer_release_ends_the_hold() -> None:
    current, _ = walk(updated(), ASKED, Ready(), Probed(), Switched(), UpdateFound(NEXT))
    current, _ = walk(current, Fetched(), Prepared(), Ready(), Probed(), Switched())
    assert (current.active_release, current.held) == (NEXT, None)
    assert next_state(current, UpdateFound(NEW))[1] == Fetch(NEW, "a")


def test_a_hold_that_is_lifted_lets_the_release_in() -> None:
    current, _ = walk(updated(), ASKED, Ready(), Probed(), Switched(), LIFTED)
    assert next_state(current, UpdateFound(NEW))[1] == Fetch(NEW, "b")


def test_going_back_twice_by_hand_returns_to_the_newer_one() -> None:
    current, _ = walk(updated(), ASKED, Ready(), Probed(), Switched())
    current, _ = walk(current, ASKED, Ready(), Probed(), Switched())
    assert current.active_release == NEW
    assert current.is_held(OLD)
    assert current.is_held(NEW) is None


def test_going_back_by_hand_that_fails_holds_nothing() -> None:
    current, _ = walk(updated(), ASKED, RELEASE_FAULT, WentBack())
    assert (current.active_release, current.held) == (NEW, None)
    kept, _ = walk(updated(), ASKED, OTHER_FAULT, WentBack())
    assert kept.previous == OLD  # nobody's fault: it may be tried again


def test_what_crashes_lead_back_to_is_no_longer_held() -> None:
    held, _ = walk(updated(), ASKED, Ready(), Probed(), Switched())
    crashed, _ = walk(held, *[CRASHED] * MAX_CRASHES)
    assert crashed.is_held(NEW)  # it does not serve yet
    current, _ = walk(crashed, Ready(), Probed(), Switched())
    assert (current.active_release, current.held) == (NEW, None)


@pytest.mark.parametrize("event", [RELEASE_FAULT, OTHER_FAULT])
def test_a_hold_outlasts_crashes_that_do_not_lead_back(event: MachineEvent) -> None:
    held, _ = walk(updated(), ASKED, Ready(), Probed(), Switched())
    current, _ = walk(held, *[DAMAGED] * MAX_CRASHES, event, WentBack())
    assert current.active_release == OLD
    assert current.is_held(NEW)
    assert next_state(current, UpdateFound(NEW)) == (current, Wait())


def test_a_restart_in_the_middle_of_going_back_goes_on() -> None:
    current, _ = next_state(updated(), ASKED)
    current, action = next_state(current, STARTED)
    assert action == Activate("a")
    current, _ = walk(current, Ready(), Probed(), Switched())
    assert current.active_release == OLD
    assert current.is_held(NEW)


def test_an_update_that_overwrote_the_other_slot_leaves_nothing_to_go_back_to() -> None:
    current, _ = walk(updated(), UpdateFound(NEXT), OTHER_FAULT)
    assert current.previous is None
    assert next_state(current, ASKED) == (current, Wait())


def test_an_update_that_is_stopped_while_it_is_fetched_leaves_the_way_back() -> None:
    fetching, _ = next_state(updated(), UpdateFound(NEXT))
    assert fetching.previous == OLD  # `forge device rollback` asks this of the journal
    stopped, action = next_state(fetching, Stopped(restored=True))
    assert (stopped, action) == (updated(), Serve("b"))
    assert next_state(stopped, ASKED)[1] == Activate("a")
    gone, _ = next_state(fetching, Stopped(restored=False))
    assert (gone.state, gone.previous, gone.slots) == ("idle", None, {"b": NEW})


@pytest.mark.parametrize("event", [STARTED, Fetched(), RELEASE_FAULT])
def test_what_was_put_aside_is_nothing_to_go_back_to_after_the_fetch(event: MachineEvent) -> None:
    assert walk(updated(), UpdateFound(NEXT), event)[0].previous is None
