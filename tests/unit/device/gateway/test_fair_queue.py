"""Whose turn it is: shares of places, order within a caller, and who leaves a full queue."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.gateway.fair_queue import FairQueue


def served(demand: dict[str, int], places: int, turns: int) -> Counter[str]:
    """Serve `turns` requests of callers with that many waiting; the oldest request ends first."""
    queue: FairQueue[int] = FairQueue()
    for caller, number in demand.items():
        for item in range(number):
            queue.push(caller, item)
    inside: list[str] = []
    counts: Counter[str] = Counter()
    for _ in range(turns):
        found = queue.next()
        if found is None:
            break
        if len(inside) == places:
            queue.left(inside.pop(0))
            found = queue.next()
        assert found is not None
        caller, item = found
        queue.remove(caller, item)
        queue.entered(caller)
        inside.append(caller)
        counts[caller] += 1
    return counts


def max_min_shares(demand: dict[str, int], turns: int) -> dict[str, int]:
    """Give one turn after the other to each caller that still wants one (the definition)."""
    shares = dict.fromkeys(demand, 0)
    while turns and shares != demand:
        for one, wanted in demand.items():
            if turns and shares[one] < wanted:
                shares[one], turns = shares[one] + 1, turns - 1
    return shares


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1),
    st.integers(1, 8),
    st.integers(1, 120),
)
def test_turns_are_shared_as_max_min_fairness_shares_them(
    demand: dict[str, int], places: int, turns: int
) -> None:
    counts = served(demand, places, turns)
    shares = max_min_shares(demand, turns)
    assert counts.total() == sum(shares.values())
    for caller in demand:
        assert abs(counts[caller] - shares[caller]) <= 1


def test_a_caller_alone_has_all_places_and_keeps_its_order() -> None:
    queue: FairQueue[int] = FairQueue()
    order = []
    for item in range(5):
        queue.push("a", item)
    while found := queue.next():
        queue.remove(*found)
        queue.entered("a")
        order.append(found[1])
    assert order == [0, 1, 2, 3, 4]


def test_a_caller_with_a_request_in_progress_waits_for_one_without() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.entered("many")
    queue.push("many", "second")
    queue.push("one", "first")
    assert queue.next() == ("one", "first")


@pytest.mark.parametrize(
    ("waiting", "caller", "leaves"),
    [
        ("aaa", "b", ("a", 2)),  # the newest of a
        ("aaabb", "b", None),  # an exchange of places helps neither
        ("aaaab", "b", ("a", 3)),
        ("aaa", "a", None),
        ("ab", "c", None),
        ("", "a", None),
    ],
)
def test_a_full_queue_is_left_by_the_newest_of_the_caller_that_has_most(
    waiting: str, caller: str, leaves: tuple[str, int] | None
) -> None:
    queue: FairQueue[int] = FairQueue()
    for item, one in enumerate(waiting):
        queue.push(one, item)
    assert queue.newest_of_longest(caller) == leaves


def test_nothing_is_kept_of_callers_that_are_gone() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(100):
        caller = f"address 10.0.0.{number}"
        queue.push(caller, number)
        if number % 2:
            queue.remove(caller, number)
            queue.entered(caller)
            queue.left(caller)
        else:
            queue.remove(caller, number)
    assert [len(kept) for kept in (queue._waiting, queue._inside, queue._turns)] == [0, 0, 0]


def test_an_item_that_does_not_wait_is_not_removed() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("a", 1)
    assert not queue.remove("a", 2)
    assert not queue.remove("b", 1)
    assert queue.remove("a", 1)
    assert len(queue) == 0
