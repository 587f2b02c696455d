"""Leases on a clock the test moves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from forge.errors import ConflictError, StoreError
from forge.store import Objects, open_objects
from forge.store.leases import LeaseCancelledError, LeaseRecord, hold
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


def _lose_answers(objects: Objects, calls: list[str], *names: str) -> None:
    """Each named write arrives, but the first answer of it does not."""
    for name in names:
        write = getattr(objects, name)

        def lost(*arguments: object, write: object = write, name: str = name) -> object:
            assert callable(write)
            result = write(*arguments)
            calls.append(name)
            if calls.count(name) == 1:
                raise ConflictError("the answer was lost and the second try found the first")
            return result

        setattr(objects, name, lost)


def test_lease_whose_first_write_lost_its_answer_is_held(tmp_path: Path) -> None:
    objects, calls = open_objects(str(tmp_path)), list[str]()
    _lose_answers(objects, calls, "write_new")
    with hold(objects, "key", owner="me", wait_s=5) as lease:
        assert lease.held()
    assert calls == ["write_new"]
    assert objects.size("leases/key") is None


def test_renewal_whose_answer_was_lost_loses_no_lease(tmp_path: Path) -> None:
    objects, calls = open_objects(str(tmp_path)), list[str]()
    _lose_answers(objects, calls, "write_if")
    with hold(objects, "key", owner="me", ttl_s=0.6) as lease:
        deadline = time.monotonic() + 20
        while len(calls) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        lease.check()
    assert len(calls) >= 3
    assert objects.size("leases/key") is None


def test_lease_that_somebody_else_took_over_is_lost(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    with hold(objects, "key", owner="me", ttl_s=0.3) as lease:
        thief = LeaseRecord(owner="other:1", expires=time.time() + 60, token="theirs")
        objects.write("leases/key", thief.encode())
        deadline = time.monotonic() + 20
        while lease.held() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(ConflictError, match="was lost"):
            lease.check()
    assert objects.read("leases/key", max_bytes=999).data == thief.encode()


def test_waiting_for_a_lease_ends_at_once_when_it_is_cancelled(tmp_path: Path) -> None:
    objects, cancelled, told = open_objects(str(tmp_path)), threading.Event(), list[str]()
    record = LeaseRecord(owner="other:1", expires=time.time() + 600)
    objects.write("leases/key", record.encode())

    def waiting(owner: str, until: float) -> None:
        told.append(owner)
        assert until == record.expires
        threading.Timer(0.7, cancelled.set).start()  # after a second look

    began = time.monotonic()
    with (
        pytest.raises(LeaseCancelledError, match="Stopped waiting for the lease") as caught,
        hold(objects, "key", owner="me", wait_s=300, cancelled=cancelled, waiting=waiting),
    ):
        pass
    assert time.monotonic() - began < 60
    assert told == ["other:1"]
    assert isinstance(caught.value, StoreError)
    assert caught.value.exit_code == 9
    assert objects.read("leases/key", max_bytes=999).data == record.encode()
