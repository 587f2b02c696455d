"""A queue that shares what it waits for among callers.

The next is of the caller with the fewest requests in progress; of several such callers, the one
whose last turn is the longest ago. Requests of one caller keep their order. This is max-min
fairness: a caller that asks for less than its share gets all of it, the others share the rest.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """Items that wait, by caller, and how many of each caller are in progress."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Item]] = {}
        self._inside: Counter[str] = Counter()
        self._turns: dict[str, int] = {}  # only of callers that are inside or wait
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Return how many items wait."""
        return sum(map(len, self._waiting.values()))

    def push(self, caller: str, item: _Item) -> None:
        """Let an item wait behind the others of its caller."""
        self._waiting.setdefault(caller, deque()).append(item)
        # A new caller is behind those of equal standing that came before it.
        self._turns.setdefault(caller, next(self._numbers))

    def next(self) -> tuple[str, _Item] | None:
        """Return the caller and the item whose turn it is; None: nothing waits."""
        if not self._waiting:
            return None
        caller = min(self._waiting, key=lambda one: (self._inside[one], self._turns[one]))
        return caller, self._waiting[caller][0]

    def remove(self, caller: str, item: _Item) -> bool:
        """Remove an item that waits; False: it does not."""
        mine = self._waiting.get(caller)
        if not mine or item not in mine:
            return False
        mine.remove(item)
        self._forget(caller)
        return True

    def newest_of_longest(self, caller: str) -> tuple[str, _Item] | None:
        """Return what must leave a full queue so that this caller may enter it.

        It is the newest item of the caller with the most of them; None if that caller would then
        have fewer than this one.
        """
        if not self._waiting:
            return None
        longest = max(self._waiting, key=lambda one: len(self._waiting[one]))
        mine = len(self._waiting.get(caller, ()))
        found = self._waiting[longest]
        return (longest, found[-1]) if len(found) > mine + 1 else None

    def entered(self, caller: str) -> None:
        """Count a request of this caller that begins; it had its turn."""
        self._inside[caller] += 1
        self._turns[caller] = next(self._numbers)

    def left(self, caller: str) -> None:
        """Count a request of this caller that ended."""
        self._inside[caller] -= 1
        self._forget(caller)

    def _forget(self, caller: str) -> None:
        """Keep nothing of callers that are gone: addresses have no end."""
        if not self._waiting.get(caller):
            self._waiting.pop(caller, None)
        if self._inside[caller] <= 0:
            del self._inside[caller]
            if caller not in self._waiting:
                self._turns.pop(caller, None)
