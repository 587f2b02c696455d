"""Several copies of a store: an object that one lacks, fails to send or alters is read at the next.

They are listed in order of preference. One that fails is tried last for a time that doubles with
each further failure; one that sent wrong bytes of an object is tried last for that object. The
caller verifies every object, so a mirror needs neither trust nor keys.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from forge.errors import CorruptedError, NotInStoreError, StoreError
from forge.store import cancellation
from forge.store.backends.protocol import BrokenOffError, Entry, Objects, StoreBusyError, Stored
from forge.store.backends.read_only import ReadOnly
from forge.store.backends.throttle import pause
from forge.store.formats.names import is_object

__all__ = ["Mirrors", "Standing"]

_ROUNDS: Final = 3
_AWAY_S: Final = 30.0
_LONGEST_AWAY_S: Final = 600.0
_DOUBTED_S: Final = 600.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """State of one place since it was opened.

    Attributes:
        url: where it is, without credentials.
        failures: consecutive failures; 0 after a success or before the first request.
        served_last: whether it served the latest successful request.
    """

    url: str
    failures: int = 0
    served_last: bool = False


@dataclass(eq=False, slots=True)
class _Place:
    """One mirror with its failures; times by the monotonic clock."""

    objects: Objects
    failures: int = 0
    away_until: float = 0.0
    doubted: dict[str, float] = field(default_factory=dict)

    def failed(self, now: float, after_s: float) -> None:
        self.failures += 1
        away = max(after_s, _AWAY_S * 2 ** min(self.failures - 1, 8))
        self.away_until = now + min(away, _LONGEST_AWAY_S)

    def answered(self) -> None:
        self.failures, self.away_until = 0, 0.0

    def has_bad_copy(self, name: str, now: float) -> bool:
        return self.doubted.get(name, 0.0) > now


class Mirrors(ReadOnly):
    """Read-only objects, from the first place that has a correct copy.

    Args:
        places: at least one; the first is preferred.
        clock: seconds, monotonic.
        sleep: waits between rounds when no place is reachable.
    """

    def __init__(
        self,
        places: Sequence[Objects],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = cancellation.sleep,
    ) -> None:
        self._places = [_Place(one) for one in places]
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._served: _Place | None = None
        self._used = threading.local()  # object that this thread read last, and its place

    @property
    def url(self) -> str:
        """Return the URL of the preferred place."""
        return self._places[0].objects.url

    def standings(self) -> tuple[Standing, ...]:
        """Return the state of each place, in order of preference."""
        with self._lock:
            return tuple(
                Standing(one.objects.url, one.failures, one is self._served) for one in self._places
            )

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""
        return self._first(name, lambda one: one.read(name, max_bytes=max_bytes))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""
        return self._first(name, lambda one: one.read_range(name, start, length))

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`. All bytes come from one place, so that it can be reported."""

        def begin(objects: Objects) -> tuple[bytes, Generator[bytes]]:
            blocks = objects.stream(name, start, length)
            return next(blocks, b""), blocks

        first, blocks = self._first(name, begin)
        place: _Place = self._used.read[1]
        with contextlib.closing(blocks):
            yield first
            try:
                yield from blocks
            except cancellation.CancelledError:
                raise
            except StoreError as error:
                self._mark_failed(place, error)
                raise BrokenOffError(error.what, why=error.why, hint=error.hint) from error

    def report_bad_copy(self, name: str) -> bool:
        """See `Objects.report_bad_copy`."""
        now = self._clock()
        read: tuple[str, _Place] | None = getattr(self._used, "read", None)
        if read is None or read[0] != name:  # no place had the object
            return False
        with self._lock:
            self._mark_bad_copy(read[1], name, now)
            elsewhere = any(not one.has_bad_copy(name, now) for one in self._places)
            if not elsewhere:  # all copies are reported: start with the preferred place again
                for one in self._places:
                    one.doubted.pop(name, None)
        return elsewhere

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`."""

        def head(objects: Objects) -> Entry:
            found = objects.entry(name)
            if found is None:
                raise NotInStoreError(f"{name} is not in the store {objects.url}")
            return found

        try:
            return self._first(name, head)
        except NotInStoreError:
            return None

    def _first(self, name: str, call: Callable[[Objects], _T]) -> _T:
        """Return the result of the first place that succeeds. Raises as `Objects.read`."""
        for turn in range(1, _ROUNDS):
            try:
                return self._round(name, call)
            except (NotInStoreError, CorruptedError):
                raise
            except cancellation.CancelledError:
                raise
            except StoreError:
                self._sleep(pause(turn + 1))
        return self._round(name, call)

    def _round(self, name: str, call: Callable[[Objects], _T]) -> _T:
        self._used.read = None
        answer: StoreError | None = None  # "not in store" or "corrupted"
        trouble: StoreError | None = None
        for place, away in self._order(name):
            if away and answer is not None and not is_object(name):
                break  # each refresh requests the next root, which rarely exists
            try:
                value = call(place.objects)
            except NotInStoreError as error:
                answer = answer or error
            except CorruptedError as error:
                with self._lock:
                    self._mark_bad_copy(place, name, self._clock())
                answer = error
            except cancellation.CancelledError:
                raise
            except StoreError as error:
                self._mark_failed(place, error)
                trouble = error
            else:
                place.answered()
                self._served = place
                self._used.read = name, place
                return value
        raise answer or trouble or AssertionError

    def _order(self, name: str) -> list[tuple[_Place, bool]]:
        """Return healthy places, then those with a bad copy, then failing ones (True)."""
        now = self._clock()
        with self._lock:
            rows = [(one, one.away_until > now) for one in self._places]
            return sorted(rows, key=lambda row: (row[1], row[0].has_bad_copy(name, now)))

    def _mark_failed(self, place: _Place, error: StoreError) -> None:
        after_s = error.after_s if isinstance(error, StoreBusyError) else 0.0
        with self._lock:
            place.failed(self._clock(), after_s)
        _log.warning("%s Trying the other mirrors.", str(error).splitlines()[0])

    def _mark_bad_copy(self, place: _Place, name: str, now: float) -> None:
        place.doubted = {key: until for key, until in place.doubted.items() if until > now}
        place.doubted[name] = now + _DOUBTED_S
        _log.warning("%s from %s is corrupted.", name, place.objects.url)
