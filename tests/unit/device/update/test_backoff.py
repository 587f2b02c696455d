"""How many checks of the channel are skipped between tries of a release that fails locally."""

from __future__ import annotations

from forge.device.shared.release import Release
from forge.device.update.backoff import ReleaseBackoff


def release(version: str) -> Release:
    return Release(name="llm", version=version, profile="development", manifest=f"{version:0>64}")


ONE, TWO = release("1"), release("2")


def skipped(backoff: ReleaseBackoff, wanted: Release) -> int:
    """Checks that are skipped until it is tried."""
    checks = 0
    while backoff.skips(wanted):
        checks += 1
        assert checks <= 100, "it is never tried again"
    return checks


def test_each_failure_skips_about_twice_as_many_checks() -> None:
    backoff, checks = ReleaseBackoff(), []
    for _ in range(9):
        announced = backoff.failed(ONE)
        checks.append(skipped(backoff, ONE))
        assert checks[-1] == announced
    assert checks == [0, 1, 3, 7, 15, 31, 63, 63, 63]


def test_another_release_is_tried_at_once_and_begins_at_zero() -> None:
    backoff = ReleaseBackoff()
    for _ in range(5):
        backoff.failed(ONE)
    assert skipped(backoff, TWO) == 0
    assert backoff.failed(TWO) == 0


def test_a_release_that_never_failed_is_tried_at_once() -> None:
    assert ReleaseBackoff().skips(ONE) is False
