"""Stop strings: text goes through until one of them stands in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["StopFilter"]


@dataclass(slots=True)
class StopFilter:
    """Holds back what may be the beginning of a stop string.

    Attributes:
        stops: none of them is let through.
        hit: one has come; nothing is let through any more.
    """

    stops: tuple[str, ...]
    hit: bool = False
    _held: str = field(default="")

    def feed(self, text: str) -> str:
        """What can be shown of the text so far and was not."""
        if self.hit:
            return ""
        self._held += text
        places = [place for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.hit = True
            return self._held[: min(places)]
        keep = max((self._tail(stop) for stop in self.stops), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def rest(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return "" if self.hit else held

    def _tail(self, stop: str) -> int:
        """Length of the longest beginning of `stop` that the text ends with."""
        most = min(len(stop) - 1, len(self._held))
        return next((n for n in range(most, 0, -1) if self._held.endswith(stop[:n])), 0)
