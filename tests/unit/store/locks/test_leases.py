"""Leases on a clock the test moves."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from forge.errors import ConflictError, StoreError
from forge.store import Objects, open_objects
from forge.store.backends.memory import MemoryObjects
from forge.store.locks.leases import LeaseCancelledError, LeaseRecord, hold, live, owner
from tests.support.stores import Hands


def test_lease_of_a_dead_holder_is_taken_over_when_it_expired(tmp_path: Path) -> None:
    objects, hands = open_objects(str(tmp_path)), Hands()
    record = LeaseRecord(owner="dead:1", expires=hands.time + 60)
    objects.write("leases/key", record.encode())
    with (
        pytest.raises(ConflictError, match="held by dead:1 until 2027-01-15T08:01:00Z"),
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
        pytest.raises(LeaseCancelledError, match="Cancelled while waiting for the lease") as caught,
        hold(objects, "key", owner="me", wait_s=300, cancelled=cancelled, waiting=waiting),
    ):
        pass
    assert time.monotonic() - began < 60
    assert told == ["other:1"]
    assert isinstance(caught.value, StoreError)
    assert caught.value.exit_code == 9
    assert objects.read("leases/key", max_bytes=999).data == record.encode()


def test_two_owners_take_turns() -> None:
    objects, hands = MemoryObjects(), Hands()
    for who in ("a:1", "b:1", "a:1"):
        with hold(objects, "key", owner=who, clock=hands.clock()) as lease:
            assert lease.held()
            record = live(objects.read("leases/key", max_bytes=999).data, hands.time)
            assert record is not None
            assert (record.owner, record.expires) == (who, hands.time + 60)
            with (
                pytest.raises(ConflictError, match="key") as caught,
                hold(objects, "key", owner="c:1", clock=hands.clock()),
            ):
                pass
            assert who in caught.value.why
            assert objects.url in caught.value.what
            lease.check()
        assert objects.size("leases/key") is None


def test_the_same_owner_is_another_holder() -> None:
    objects, hands = MemoryObjects(), Hands()
    with (
        hold(objects, "key", owner="a:1", clock=hands.clock()),
        pytest.raises(ConflictError),
        hold(objects, "key", owner="a:1", clock=hands.clock()),
    ):
        pass


def test_waiting_lasts_as_long_as_it_was_told_and_tells_the_holder_once() -> None:
    objects, hands, told = MemoryObjects(), Hands(), list[tuple[str, float]]()
    begun = hands.time
    record = LeaseRecord(owner="a:1", expires=begun + 600)
    objects.write("leases/key", record.encode())
    with (
        pytest.raises(ConflictError, match="a:1"),
        hold(objects, "key", owner="b:1", wait_s=10, clock=hands.clock(),
             waiting=lambda *call: told.append(call)),
    ):  # fmt: skip
        pass
    assert hands.time == begun + 10
    assert told == [("a:1", begun + 600)]


def test_a_lease_that_expired_is_left_to_the_next_holder() -> None:
    objects, hands = MemoryObjects(), Hands()
    with hold(objects, "key", owner="a:1", clock=hands.clock()) as first:
        hands.time += 61
        with hold(objects, "key", owner="b:1", clock=hands.clock()) as second:
            assert not first.held()
            assert second.held()
            record = objects.read("leases/key", max_bytes=999)
            first.release()  # must not delete the lease of the other
            assert objects.read("leases/key", max_bytes=999) == record
            second.check()


def test_an_error_of_the_body_releases_the_lease() -> None:
    objects, hands = MemoryObjects(), Hands()
    with pytest.raises(KeyError), hold(objects, "key", owner="a:1", clock=hands.clock()):
        raise KeyError
    assert objects.size("leases/key") is None


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"x" * 5000, b'{"owner": "a", "expires": "never"}', b'{"owner": "a"}',
     b'{"owner": "a", "expires": NaN}', b'{"owner": "a", "expires": 1e999}'],
    ids=["empty", "cut", "large", "text", "no-expiry", "nan", "infinite"],
)  # fmt: skip
def test_bytes_that_are_not_a_lease_do_not_block(data: bytes) -> None:
    objects, hands = MemoryObjects(), Hands()
    assert live(data, 0.0) is None
    objects.write("leases/key", data)
    with hold(objects, "key", owner="a:1", clock=hands.clock()) as lease:
        assert lease.held()


def test_a_lease_is_live_until_it_expires() -> None:
    record = LeaseRecord(owner="a:1", expires=100.0, token="t")
    assert live(record.encode(), 99.9) == record
    assert live(record.encode(), 100.0) is None


def test_a_lease_that_cannot_be_deleted_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    objects, hands = MemoryObjects(), Hands()

    def fail(_name: str) -> None:
        raise StoreError("the store is out of reach")

    with hold(objects, "key", owner="a:1", clock=hands.clock()):
        objects.delete = fail  # type: ignore[assignment, method-assign]
    assert "the store is out of reach" in caplog.text
    assert "leases/key" in caplog.text


def test_the_owner_of_this_process_is_its_host_and_number() -> None:
    host, _, number = owner().rpartition(":")
    assert host == socket.gethostname()
    assert int(number) == os.getpid()


@pytest.mark.parametrize(("age", "deleted"), [(58.9, True), (59.1, False), (60.5, False)])
def test_a_lease_that_is_about_to_expire_is_not_deleted(age: float, *, deleted: bool) -> None:
    objects, hands = MemoryObjects(), Hands()
    with hold(objects, "key", owner="a:1", clock=hands.clock()):
        hands.time += age  # deleting takes time, in which another may take it over
    assert (objects.size("leases/key") is None) is deleted
