"""Up to date, behind and why, being installed, or not known."""

from __future__ import annotations

import pytest

from forge.device.shared.release import Release
from forge.device.state_machine.journal import FailedRelease, InterruptedRelease, Journal
from forge.device.telemetry.contact import StoreContact
from forge.device.telemetry.freshness import freshness
from forge.errors import FitError
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
NOW = "2026-11-30T03:00:00Z"
SERVES_OLD = Journal(active="a", slots={"a": OLD})
OFFERS_NEW = StoreContact(
    last_contact="2026-11-30T02:59:00Z", offered=NEW, behind_since="2026-11-30T01:00:00Z"
)


def text(journal: Journal, contact: StoreContact, problem: str = "") -> str:
    return freshness(journal, contact, problem, now=NOW).text("stable")


def test_a_channel_that_was_never_read_is_not_known() -> None:
    assert text(SERVES_OLD, StoreContact()) == "not known: the channel was not read yet"


def test_a_channel_that_has_nothing_for_this_machine_is_not_one_that_the_device_follows() -> None:
    offers_old = OFFERS_NEW.model_copy(update={"offered": OLD})
    unfit = offers_old.failed(FitError("No profile matches", why="2.0.0 has thor only"), NOW)
    found = freshness(SERVES_OLD, unfit, now=NOW)
    assert (found.state, found.offered) == ("unknown", None)
    assert found.text("stable").startswith("not known: No profile matches")
    assert "\n" not in found.text("stable")


def test_what_serves_is_what_the_channel_points_to() -> None:
    offers_old = OFFERS_NEW.model_copy(update={"offered": OLD})
    assert text(SERVES_OLD, offers_old) == "up to date: stable points to 1.0.0"


def test_a_device_behind_says_for_how_long() -> None:
    found = freshness(SERVES_OLD, OFFERS_NEW, now=NOW)
    assert (found.state, found.behind_s) == ("behind", 7200)
    assert found.text("stable") == "behind for 2 h 00 min: stable points to 1.1.0"
    assert freshness(Journal(), OFFERS_NEW, now=NOW).state == "behind"  # nothing serves yet


def test_an_update_under_way_is_not_a_device_that_stays_behind() -> None:
    fetching = Journal(state="fetching", active="a", target="b", candidate=NEW, slots={"a": OLD})
    assert text(fetching, OFFERS_NEW, "an old error") == ("installing: stable points to 1.1.0")
    older = fetching.model_copy(update={"candidate": Release.of(manifest("1.0.9"))})
    assert freshness(older, OFFERS_NEW, now=NOW).state == "behind"


def failed(reason: str) -> FailedRelease:
    return FailedRelease(release=NEW, reason=reason, at=NOW)


@pytest.mark.parametrize(
    ("changes", "problem", "said"),
    [
        ({"bad": (failed("wrong answer:\nA?"),)}, "", "it is known to be bad: wrong answer"),
        ({"held": failed("too slow")}, "", "it is held back: too slow"),
        (
            {
                "interrupted": InterruptedRelease(
                    release=NEW, times=1, checks=3, reason="power", at=NOW
                )
            },
            "",
            "it waits for 3 more checks: power",
        ),
        ({}, "it does not fit: driver 580", "it does not fit: driver 580"),
        ({"held": failed("too slow")}, "another error", "it is held back: too slow"),
    ],
)
def test_a_device_behind_says_why(changes: dict[str, object], problem: str, said: str) -> None:
    journal = SERVES_OLD.model_copy(update=changes)
    assert text(journal, OFFERS_NEW, problem).endswith(f"points to 1.1.0; {said}")
