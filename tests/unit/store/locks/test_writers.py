"""Writers and the collector of garbage: never both at once, any number of writers."""

from __future__ import annotations

import pytest

from forge.errors import ConflictError
from forge.store.backends.memory import MemoryObjects
from forge.store.locks.leases import LeaseRecord
from forge.store.locks.writers import COLLECTOR, collecting, writing
from tests.support.stores import Hands


def leases(objects: MemoryObjects) -> list[str]:
    return [entry.name for entry in objects.entries("")]


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_any_number_of_writers_run_at_once(objects: MemoryObjects, hands: Hands) -> None:
    clock = hands.clock()
    with writing(objects, "a:1", clock) as first, writing(objects, "a:1", clock) as second:
        assert first.held()
        assert second.held()
        assert first.name != second.name
    assert leases(objects) == []


def test_a_writer_is_refused_while_garbage_is_collected(
    objects: MemoryObjects, hands: Hands
) -> None:
    clock = hands.clock()
    with (
        collecting(objects, "host:7", clock),
        pytest.raises(ConflictError) as caught,
        writing(objects, "me:1", clock),
    ):
        pass
    assert objects.url in caught.value.what
    assert "host:7" in caught.value.why
    assert caught.value.hint
    assert leases(objects) == []  # the refused writer left no mark
    with writing(objects, "me:1", clock):
        pass


def test_the_collector_is_refused_while_a_writer_runs(objects: MemoryObjects, hands: Hands) -> None:
    clock = hands.clock()
    with writing(objects, "host:7", clock):
        with pytest.raises(ConflictError) as caught, collecting(objects, "me:1", clock):
            pass
        assert objects.url in caught.value.what
        assert "host:7" in caught.value.why
        assert COLLECTOR not in leases(objects)
    with collecting(objects, "me:1", clock):
        assert leases(objects) == [COLLECTOR]


def test_one_collection_at_a_time(objects: MemoryObjects, hands: Hands) -> None:
    clock = hands.clock()
    with (
        collecting(objects, "host:7", clock),
        pytest.raises(ConflictError, match="host:7"),
        collecting(objects, "me:1", clock),
    ):
        pass


@pytest.mark.parametrize("seconds", [59, 61])
def test_the_mark_of_a_killed_process_counts_until_it_expires(
    objects: MemoryObjects, hands: Hands, seconds: float
) -> None:
    dead = LeaseRecord(owner="dead:1", expires=hands.time + 60).encode()
    for mark, other in ((COLLECTOR, writing), ("leases/writers/1234", collecting)):
        objects.write(mark, dead)
        hands.time += seconds
        if seconds < 60:
            with pytest.raises(ConflictError, match="dead:1"), other(objects, "me", hands.clock()):
                pass
        else:
            with other(objects, "me", hands.clock()):
                pass
        hands.time -= seconds
        objects.delete(mark)


def test_other_leases_keep_neither_away(objects: MemoryObjects, hands: Hands) -> None:
    other = LeaseRecord(owner="other:1", expires=hands.time + 60).encode()
    for name in ("leases/step", "leases/gc-old", "leases/writer"):
        objects.write(name, other)
    with collecting(objects, "me", hands.clock()):
        pass
    with writing(objects, "me", hands.clock()):
        pass


@pytest.mark.parametrize("first", [collecting, writing])
def test_the_own_mark_is_there_before_the_other_is_looked_for(hands: Hands, first: object) -> None:
    """Two that begin at the same moment: at least one sees the other."""
    seen: list[list[str]] = []

    class Looking(MemoryObjects):
        def read(self, name: str, *, max_bytes: int) -> object:  # type: ignore[override]
            if name == COLLECTOR and first is writing:
                seen.append(leases(self))
            return super().read(name, max_bytes=max_bytes)

        def entries(self, prefix: str) -> object:  # type: ignore[override]
            if prefix == "leases/writers/":
                seen.append(leases(self))
            return super().entries(prefix)

    assert callable(first)
    with first(Looking(), "me", hands.clock()):
        pass
    mark = "leases/writers/" if first is writing else COLLECTOR
    assert seen
    assert all(any(name.startswith(mark) for name in found) for found in seen)
