"""Leases on a clock the test moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import ConflictError
from forge.store import open_objects
from forge.store.leases import LeaseRecord, hold
from tests.support.stores import Hands


def test_lease_of_a_dead_holder_is_taken_over_when_it_expired(tmp_path: Path) -> None:
    objects, hands = open_objects(str(tmp_path)), Hands()
    record = LeaseRecord(owner="dead:1", expires=hands.time + 60)
    objects.write("leases/key", record.encode())
    with (
        pytest.raises(ConflictError, match="dead:1 holds it until 2027-01-15T08:01:00Z"),
        hold(objects, "key", owner="me", clock=hands.clock()),
    ):
        pass
    hands.time += 61
    with hold(objects, "key", owner="me", clock=hands.clock()) as lease:
        assert lease.held()
    assert objects.size("leases/key") is None


def test_waiting_for_a_lease_ends_when_it_expires(tmp_path: Path) -> None:
    objects, hands = open_objects(str(tmp_path)), Hands()
    record = LeaseRecord(owner="dead:1", expires=hands.time + 60)
    objects.write("leases/key", record.encode())
    with hold(objects, "key", owner="me", wait_s=100, clock=hands.clock()) as lease:
        assert lease.held()


def test_damaged_lease_does_not_block(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    objects.write("leases/key", b"{")
    with hold(objects, "key", owner="me") as lease:
        lease.check()


def test_holder_that_stood_still_too_long_notices(tmp_path: Path) -> None:
    objects, hands = open_objects(str(tmp_path)), Hands()
    with hold(objects, "key", owner="me", clock=hands.clock()) as lease:
        hands.time += 61
        with pytest.raises(ConflictError, match="was lost"):
            lease.check()
    assert objects.size("leases/key") is not None  # perhaps somebody else's by now
