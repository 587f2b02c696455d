"""The verdict on a failed action: a table over actions, errors and what explains them."""

from __future__ import annotations

from itertools import product

import pytest

from forge.device.shared.release import Release, SlotName
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
from forge.device.state_machine.journal import Journal
from forge.device.update.failure_policy import SlotCondition, judge, not_kept, slot_to_check
from forge.errors import (
    BundleError,
    ConfigurationError,
    ContainmentUnknownError,
    CorruptedError,
    ForgeError,
    LoadFailedError,
    PortTakenError,
    RolledBackError,
    SmokeGateError,
    StepFailedError,
    StoreError,
    TrustError,
    UsageError,
)

OLD = Release(name="llm", version="1", profile="development", manifest="0" * 64)
NEW = Release(name="llm", version="2", profile="development", manifest="1" * 64)
FETCH = Fetch(NEW, "b")
ACTIONS = (FETCH, Prepare("b"), Activate("b"), Probe("b"), Switch("b"), GoBack("a"), Serve("a"))
KINDS: tuple[type[ForgeError], ...] = (
    BundleError, LoadFailedError, TrustError, SmokeGateError, StepFailedError, UsageError,
    ConfigurationError, PortTakenError, StoreError, CorruptedError, ForgeError,
    ContainmentUnknownError,
)  # fmt: skip
UPDATING = Journal(
    state="probing", active="a", target="b", candidate=NEW, slots={"a": OLD, "b": NEW}
)
FIRST = Journal(state="probing", target="a", candidate=NEW, slots={"a": NEW})
RETURNING = Journal(
    state="probing", active="a", target="b", candidate=OLD, previous=OLD,
    slots={"a": NEW, "b": OLD},
)  # fmt: skip

# By these errors the release is at fault, on a machine that lacks nothing. All others are not its.
FAULTS: dict[type[Action], set[type[ForgeError]]] = {
    Fetch: {BundleError, LoadFailedError, TrustError},
    Prepare: {BundleError, LoadFailedError},
    Activate: {BundleError, LoadFailedError},
    Probe: {
        BundleError, LoadFailedError, TrustError, SmokeGateError, StepFailedError, UsageError,
        ConfigurationError, PortTakenError, ForgeError,
    },
    Switch: {BundleError, LoadFailedError},
    GoBack: {BundleError, LoadFailedError},
    Serve: {BundleError, LoadFailedError},
}  # fmt: skip


@pytest.mark.parametrize(("action", "kind"), list(product(ACTIONS, KINDS)))
def test_each_error_of_each_action_is_the_release_fault_or_not(
    action: Action, kind: type[ForgeError]
) -> None:
    error = kind("it failed")
    verdict = judge(action, error, UPDATING)
    fault = kind in FAULTS[type(action)]
    assert verdict.release_fault is fault
    assert verdict.crashed is (fault and isinstance(action, Serve))
    assert verdict.back_off is not (fault or isinstance(action, Serve))
    if fault and not isinstance(action, Serve):
        assert isinstance(verdict.error, RolledBackError)
        assert verdict.error.why == str(error)
        assert "slot a serves on" in verdict.error.hint
    else:
        assert verdict.error is error


@pytest.mark.parametrize(
    ("lack", "condition", "unfit"),
    [
        ("3 MiB of memory are available", "intact", ""),
        ("", "repaired", ""),
        ("", "damaged", ""),
        ("", "intact", "NVIDIA driver 590.44.01 → 580.10"),
    ],
)
@pytest.mark.parametrize(("action", "kind"), list(product(ACTIONS, KINDS)))
def test_a_lack_a_damaged_slot_or_another_system_explains_any_failure(
    action: Action, kind: type[ForgeError], lack: str, condition: SlotCondition, unfit: str
) -> None:
    error = kind("it failed")
    verdict = judge(action, error, UPDATING, lack=lack, condition=condition, unfit=unfit)
    assert verdict.crashed is (
        isinstance(action, Serve) and kind in FAULTS[Serve] and condition != "repaired"
    )
    assert not verdict.release_fault
    assert verdict.error is error


@pytest.mark.parametrize(
    ("lack", "condition", "crashed", "fault"),
    [
        ("", "intact", True, True),
        ("", "damaged", True, False),
        ("", "repaired", False, False),  # it starts now: nothing to count
        ("no memory", "intact", True, False),
        ("no memory", "damaged", True, False),
        ("no memory", "repaired", False, False),
    ],
)
def test_a_slot_that_does_not_load_counts_as_crashed_unless_it_was_repaired(
    lack: str, condition: SlotCondition, *, crashed: bool, fault: bool
) -> None:
    error = LoadFailedError("it does not load")
    verdict = judge(Serve("a"), error, UPDATING, lack=lack, condition=condition)
    assert (verdict.crashed, verdict.release_fault) == (crashed, fault)
    assert not verdict.back_off


def test_a_bad_first_release_is_tried_again_less_and_less_often() -> None:
    """There is nothing to go back to, and a device that does nothing helps no one."""
    verdict = judge(Probe("a"), SmokeGateError("wrong"), FIRST)
    assert (verdict.release_fault, verdict.back_off) == (True, True)
    assert "no other bundle is installed" in verdict.error.hint


def test_without_a_candidate_there_is_nothing_to_try_again() -> None:
    journal = Journal(state="rolling-back", active="a", slots={"a": OLD})
    assert not judge(GoBack("a"), StoreError("no"), journal).back_off


LOAD, GATE, PORT = LoadFailedError("no"), SmokeGateError("no"), PortTakenError("no")


@pytest.mark.parametrize(
    ("action", "error", "journal", "lack", "expected"),
    [
        (Serve("a"), LOAD, UPDATING, "", ("a", OLD)),
        (Serve("a"), LOAD, UPDATING, "no memory", ("a", OLD)),  # it may be damaged all the same
        (Serve("a"), PORT, UPDATING, "", None),
        (Serve("a"), LOAD, Journal(), "", None),
        (Activate("b"), LOAD, RETURNING, "", ("b", OLD)),
        (Probe("b"), GATE, RETURNING, "", ("b", OLD)),
        (Activate("b"), LOAD, RETURNING, "no memory", None),  # that explains it already
        (Activate("b"), PORT, RETURNING, "", None),
        # Just fetched and verified; a failing disk can change it before it is read.
        (Activate("b"), LOAD, UPDATING, "", ("b", NEW)),
        (Probe("b"), GATE, UPDATING, "", ("b", NEW)),
        (Activate("b"), LOAD, Journal(), "", None),
        (Prepare("b"), LOAD, RETURNING, "", None),
        (Wait(), LOAD, RETURNING, "", None),
    ],
)
def test_files_are_checked_where_they_may_have_changed_since_they_were_verified(
    action: Action,
    error: ForgeError,
    journal: Journal,
    lack: str,
    expected: tuple[str, Release] | None,
) -> None:
    assert slot_to_check(action, error, journal, lack=lack) == expected


@pytest.mark.parametrize(
    ("active", "kept"),
    [("b", "slot b serves on; "), (None, "no other bundle is installed; ")],
)
def test_a_release_that_was_not_kept_is_reported_with_what_serves(
    active: SlotName | None, kept: str
) -> None:
    error = not_kept(LoadFailedError("Triton ended", hint="see its log"), active)
    assert isinstance(error, RolledBackError)
    assert error.what == "The bundle was not kept"
    assert error.why == "Triton ended\n  → see its log"
    assert error.hint.startswith(kept)
    assert "forge device status" in error.hint
