"""The journal: what it may say, and that the file of a released version is still read."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from forge.device.shared.release import Release
from forge.device.state_machine.journal import (
    FailedRelease,
    InterruptedRelease,
    Journal,
    UpdateState,
)
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
AT = "2026-11-28T00:00:00Z"
UNDER_WAY: tuple[UpdateState, ...] = ("fetching", "staged", "activating", "probing")
# As written by the first version; a device in the field has it.
FIRST = """
{"active": "a", "attempts": 1, "bad": [{"at": "2026-11-24T00:00:00Z", "reason": "slow",
 "release": {"manifest": "%(b)s", "name": "llm", "profile": "development", "version": "0.9.0"}}],
 "blue_green": false, "candidate": {"manifest": "%(b)s", "name": "llm", "profile": "development",
 "version": "0.9.0"}, "crashes": 2, "held": null, "previous": null, "rollbacks": [],
 "schema_version": 1, "slots": {"a": {"manifest": "%(a)s", "name": "llm",
 "profile": "development", "version": "1.0.0"}}, "state": "probing", "target": "b"}
""" % {"a": "a" * 64, "b": "b" * 64}  # noqa: UP031  braces are JSON's


def failed(release: Release, reason: str = "slow") -> FailedRelease:
    return FailedRelease(release=release, reason=reason, at=AT)


def test_a_file_of_the_first_version_is_read_and_written_as_it_was() -> None:
    journal = Journal.model_validate_json(FIRST)
    assert (journal.state, journal.active, journal.target) == ("probing", "a", "b")
    assert (journal.attempts, journal.crashes) == (1, 2)
    assert journal.active_release is not None
    assert journal.active_release.version == "1.0.0"
    assert [one.reason for one in journal.bad] == ["slow"]
    assert json.loads(journal.encode()) == json.loads(FIRST)


def test_what_interrupted_a_release_is_written_where_there_is_something_to_say() -> None:
    late = InterruptedRelease(release=NEW, times=2, checks=3, reason="power", at=AT)
    journal = Journal(active="a", slots={"a": OLD}, interrupted=late)
    assert Journal.model_validate_json(journal.encode()) == journal
    assert (journal.is_interrupted(NEW), journal.is_interrupted(OLD)) == (late, None)
    assert Journal().is_interrupted(NEW) is None
    for wrong in ({"times": 0}, {"checks": -1}):
        with pytest.raises(ValidationError):
            InterruptedRelease.model_validate(late.model_dump() | wrong)


def test_a_new_device_has_nothing() -> None:
    assert Journal() == Journal.model_validate({})
    assert Journal().active_release is None
    assert (Journal().state, Journal().bad, Journal().held) == ("idle", (), None)


@pytest.mark.parametrize("state", UNDER_WAY)
@pytest.mark.parametrize(
    "wrong",
    [
        {"candidate": NEW, "target": None},
        {"candidate": None, "target": "b"},
        {"candidate": NEW, "target": "b", "active": "b"},
    ],
)
def test_an_update_under_way_is_into_the_inactive_slot(
    state: UpdateState, wrong: dict[str, Any]
) -> None:
    """A journal that named the active slot as target would let a fetch overwrite it."""
    with pytest.raises(ValidationError):
        Journal(**{"state": state, "active": "a", **wrong})
    Journal(state=state, active="a", candidate=NEW, target="b")
    Journal(state=state, active=None, candidate=NEW, target="a")


def test_a_committed_device_has_an_active_slot() -> None:
    with pytest.raises(ValidationError):
        Journal(state="committed")
    Journal(state="committed", active="a")
    for state in set(get_args(UpdateState)) - {*UNDER_WAY, "committed"}:
        Journal(state=state)  # with nothing else


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema_version": 2},
        {"state": "updating"},
        {"active": "c"},
        {"slots": {"c": OLD}},
        {"attempts": -1},
        {"crashes": -1},
        {"more": 1},
        {"bad": [{"release": OLD, "reason": "x" * 8193, "at": AT}]},
    ],
)
def test_a_document_that_is_not_a_journal_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Journal.model_validate(wrong)


def test_the_active_release_is_what_the_active_slot_holds() -> None:
    slots: Any = {"a": OLD, "b": NEW}
    assert Journal(active="a", slots=slots).active_release == OLD
    assert Journal(active="b", slots=slots).active_release == NEW
    assert Journal(slots=slots).active_release is None
    assert Journal(active="a", slots={"b": NEW}).active_release is None


def test_a_verdict_is_on_a_manifest_and_not_on_a_version() -> None:
    again = Release.of(manifest("1.1.0").model_copy(update={"created": AT}))
    renamed = NEW.model_copy(update={"version": "9.9.9"})
    journal = Journal(bad=(failed(OLD, "first"), failed(NEW, "second")), held=failed(NEW, "hand"))
    for name in (journal.is_bad, journal.is_held):
        assert name(again) is None  # the same version, published again
        assert name(renamed) is not None
    assert journal.is_bad(NEW) == failed(NEW, "second")
    assert journal.is_held(OLD) is None
    assert journal.is_held(NEW) == failed(NEW, "hand")
    assert Journal().is_bad(NEW) is None
    assert Journal().is_held(NEW) is None


def test_restarts_that_an_earlier_agent_held_against_a_release_are_forgiven() -> None:
    by_restarts = failed(OLD, "the agent exited 3 times while it activated this bundle")
    own_fault = failed(NEW, "it said: the agent exited 3 times while it activated this bundle")
    journal = Journal(bad=(by_restarts, own_fault), rollbacks=(by_restarts, own_fault))
    forgiven = journal.without_restarts()
    assert (forgiven.bad, forgiven.rollbacks) == ((own_fault,), journal.rollbacks)
    assert forgiven.without_restarts() is forgiven
