"""Which mirror is read, in which order, and for how long a failing or wrong one is avoided."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ConfigurationError, CorruptedError, NotInStoreError, StoreError
from forge.store.backends.mirrors import Mirrors, Standing
from forge.store.backends.protocol import BrokenOffError, Entry, StoreBusyError, Stored
from forge.store.cancellation import CancelledError
from tests.support.memory_stores import Place

NAME = f"packs/ab/{'ab' * 32}"
DATA = b"the right bytes"


class World:
    """Places with the same object, and a clock."""

    def __init__(self, count: int) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.places = [Place(f"memory:{number}") for number in range(count)]
        for place in self.places:
            place.write(NAME, DATA)
        self.mirrors = Mirrors(self.places, clock=lambda: self.now, sleep=self.slept.append)

    def read(self, name: str = NAME) -> list[int]:
        """Numbers of the places that are asked, in order."""
        asked: list[int] = []
        for number, place in enumerate(self.places):
            place.asked = Asked(number, asked)
        self.mirrors.read(name, max_bytes=len(DATA))
        return asked

    def fail(self, *numbers: int, error: StoreError | None = None) -> None:
        for number, place in enumerate(self.places):
            place.failure = (error or StoreError(f"{number} failed")) if number in numbers else None


class Asked(list[tuple[str, str]]):
    """Records the place's number where a place records what it is asked for."""

    def __init__(self, number: int, into: list[int]) -> None:
        super().__init__()
        self.number, self.into = number, into

    def append(self, item: tuple[str, str]) -> None:  # noqa: ARG002
        self.into.append(self.number)


def test_the_preferred_place_is_the_only_one_asked() -> None:
    world = World(3)
    assert world.read() == [0]
    assert world.mirrors.url == "memory:0"
    assert world.mirrors.read(NAME, max_bytes=99).data == DATA
    assert world.mirrors.read_range(NAME, 4, 5) == b"right"
    assert b"".join(world.mirrors.stream(NAME, 4, 5)) == b"right"
    assert world.mirrors.size(NAME) == len(DATA)
    assert world.places[1].asked == []


states = st.lists(st.sampled_from(["has", "lacks", "fails", "large"]), min_size=1, max_size=4)


@given(states)
def test_the_first_place_that_has_the_object_right_is_read(found: list[str]) -> None:
    world = World(len(found))
    for place, state in zip(world.places, found, strict=True):
        if state == "lacks":
            place.delete(NAME)
        elif state == "fails":
            place.failure = StoreError("it failed")
        elif state == "large":
            place.write(NAME, DATA + b"more")
    if "has" in found:
        first = found.index("has")
        assert world.read() == list(range(first + 1))
        assert [one.served_last for one in world.mirrors.standings()].index(True) == first
        return
    with pytest.raises(StoreError) as caught:
        world.mirrors.read(NAME, max_bytes=len(DATA))
    if "large" in found:
        assert isinstance(caught.value, CorruptedError)
    elif "lacks" in found:
        assert isinstance(caught.value, NotInStoreError)
        assert f"memory:{found.index('lacks')}" in caught.value.what
    else:
        assert caught.value.what == "it failed"
    tries = 1 if {"large", "lacks"} & set(found) else 3
    assert [len(place.asked) for place in world.places] == [tries] * len(found)
    assert len(world.slept) == tries - 1


def test_a_failing_place_is_asked_last_for_half_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    world = World(2)
    world.fail(0)
    with caplog.at_level(logging.WARNING):
        assert world.read() == [0, 1]
    assert "0 failed" in caplog.text
    world.fail()
    world.now += 29.9
    assert world.read() == [1]
    world.now += 0.2
    assert world.read() == [0]


def test_each_failure_in_a_row_doubles_the_time_up_to_ten_minutes() -> None:
    world = World(2)
    world.fail(0)
    for failures, away_s in enumerate((30, 60, 120, 240, 480, 600, 600), 1):
        assert world.read() == [0, 1]
        assert world.mirrors.standings()[0].failures == failures
        world.now += away_s - 1
        assert world.read() == [1]
        world.now += 2


def test_after_an_answer_the_next_failure_counts_as_the_first() -> None:
    world = World(2)
    world.fail(0)
    for _ in range(4):
        world.read()
        world.now += 1000
    world.fail()
    assert world.read() == [0]
    assert world.mirrors.standings() == (
        Standing("memory:0", 0, served_last=True),
        Standing("memory:1", 0, served_last=False),
    )
    world.fail(0)
    world.read()
    world.fail()
    world.now += 31
    assert world.read() == [0]


@pytest.mark.parametrize(("asked_s", "away_s"), [(5.0, 30.0), (200.0, 200.0), (1e9, 600.0)])
def test_a_busy_place_is_left_alone_as_long_as_it_asks(asked_s: float, away_s: float) -> None:
    world = World(2)
    world.fail(0, error=StoreBusyError("busy", after_s=asked_s))
    world.read()
    world.fail()
    world.now += away_s - 1
    assert world.read() == [1]
    world.now += 2
    assert world.read() == [0]


def test_a_place_without_the_object_has_not_failed() -> None:
    world = World(2)
    world.places[0].delete(NAME)
    assert world.read() == [0, 1]
    assert world.read() == [0, 1]
    assert [one.failures for one in world.mirrors.standings()] == [0, 0]


def test_a_place_with_wrong_bytes_is_asked_last_for_that_object_for_ten_minutes() -> None:
    world = World(2)
    for place in world.places:
        place.write("trees/other", DATA)
    assert world.read() == [0]
    assert world.mirrors.report_bad_copy(NAME)
    assert world.read() == [1]
    assert world.read("trees/other") == [0]
    world.now += 599
    assert world.read() == [1]
    world.now += 2
    assert world.read() == [0]
    assert [one.failures for one in world.mirrors.standings()] == [0, 0]


def test_a_place_with_a_wrong_copy_is_still_read_before_one_that_failed() -> None:
    world = World(2)
    world.read()
    world.mirrors.report_bad_copy(NAME)
    world.fail(1)
    assert world.read() == [1, 0]
    world.fail()
    assert world.read() == [0]


def test_when_all_copies_are_wrong_there_is_no_other_and_the_order_is_as_before() -> None:
    world = World(3)
    for number in range(3):
        assert world.read() == [number]
        assert world.mirrors.report_bad_copy(NAME) is (number < 2)
    assert world.read() == [0]


def test_a_report_of_what_was_not_read_last_says_nothing_of_any_place() -> None:
    world = World(2)
    assert not world.mirrors.report_bad_copy(NAME)
    world.read()
    assert not world.mirrors.report_bad_copy("trees/other")
    with pytest.raises(NotInStoreError):
        world.mirrors.read("trees/none", max_bytes=9)
    assert not world.mirrors.report_bad_copy("trees/none")
    assert world.read() == [0]


def test_a_place_whose_copy_is_too_large_is_avoided_without_a_report() -> None:
    world = World(2)
    world.places[0].write(NAME, DATA + b"more")
    assert world.read() == [0, 1]
    assert world.read() == [1]


def test_all_places_failing_is_tried_three_times_with_pauses() -> None:
    world = World(2)
    world.fail(0, 1)
    with pytest.raises(StoreError, match="failed"):
        world.mirrors.read(NAME, max_bytes=99)
    assert [len(place.asked) for place in world.places] == [3, 3]
    assert len(world.slept) == 2
    assert 0 < world.slept[0] <= 0.8 < world.slept[1] * 2


def test_being_cancelled_is_not_a_failure_of_a_place() -> None:
    world = World(2)
    world.fail(0, error=CancelledError("cancelled"))
    uses: list[Callable[[], object]] = [
        lambda: world.mirrors.read(NAME, max_bytes=99),
        lambda: world.mirrors.entry(NAME),
        lambda: list(world.mirrors.stream(NAME, 0, 3)),
    ]
    for use in uses:
        with pytest.raises(CancelledError):
            use()
    assert world.places[1].asked == []
    assert world.slept == []
    assert world.mirrors.standings()[0].failures == 0


def test_a_stream_that_breaks_is_of_one_place_and_the_next_is_of_another() -> None:
    world = World(2)
    for place in world.places:
        place.block = 4
    world.places[0].breaks_after = [8]
    found: list[bytes] = []
    with pytest.raises(BrokenOffError, match="the connection broke"):
        found.extend(block for block in world.mirrors.stream(NAME, 0, len(DATA)))
    assert world.places[1].asked == []
    assert world.mirrors.standings()[0].failures == 1
    assert b"".join(world.mirrors.stream(NAME, 8, len(DATA) - 8)) == DATA[8:]
    assert world.places[1].asked == [("stream", NAME)]


def test_a_stream_that_breaks_before_its_first_byte_comes_from_the_next_place() -> None:
    world = World(2)
    world.places[0].breaks_after = [0]
    assert b"".join(world.mirrors.stream(NAME, 0, len(DATA))) == DATA
    assert world.mirrors.standings() == (
        Standing("memory:0", 1, served_last=False),
        Standing("memory:1", 0, served_last=True),
    )


def test_a_stream_that_is_cancelled_or_closed_is_no_failure() -> None:
    world = World(1)
    world.places[0].block = 4
    world.places[0].break_error = CancelledError("cancelled")
    world.places[0].breaks_after = [8]
    with pytest.raises(CancelledError):
        list(world.mirrors.stream(NAME, 0, len(DATA)))
    closed: list[bool] = []

    def stream(_name: str, _start: int, _length: int) -> Generator[bytes]:
        try:
            yield b"1"
            yield b"2"
        finally:
            closed.append(True)

    world.places[0].stream = stream  # type: ignore[assignment, method-assign]
    blocks = world.mirrors.stream(NAME, 0, 2)
    assert next(blocks) == b"1"
    blocks.close()
    assert closed == [True]
    assert world.mirrors.standings()[0].failures == 0


def test_an_object_that_no_place_has_is_none() -> None:
    world = World(2)
    assert world.mirrors.entry("trees/none") is None
    assert world.mirrors.size("trees/none") is None
    world.fail(0)
    world.places[1].write("trees/x", b"12")
    found = world.mirrors.entry("trees/x")
    assert isinstance(found, Entry)
    assert found.size == 2


@pytest.mark.parametrize(("name", "asked"), [("tuf/2.root.json", 0), (NAME, 1)])
def test_a_dead_place_is_asked_only_for_objects_that_another_should_have(
    name: str, asked: int
) -> None:
    world = World(2)
    world.fail(0)
    world.read()
    for place in world.places:
        place.delete(NAME)
    world.places[0].asked = []
    with pytest.raises(NotInStoreError):
        world.mirrors.read(name, max_bytes=9)
    assert len(world.places[0].asked) == asked


def test_mirrors_are_read_only() -> None:
    world = World(1)
    with pytest.raises(ConfigurationError, match="memory:0"):
        world.mirrors.write(NAME, b"x")
    assert world.mirrors.read(NAME, max_bytes=99) == Stored(
        DATA, world.places[0].read(NAME, max_bytes=99).etag
    )
