"""Stop sequences: pass text through until one of them occurs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["StopSequenceFilter"]


@dataclass(slots=True)
class StopSequenceFilter:
    """Holds back text that may be the beginning of a stop sequence.

    Attributes:
        stops: the sequences; none of them is passed through.
        hit: whether one occurred; nothing is passed through after it.
    """

    stops: tuple[str, ...]
    hit: bool = False
    _held: str = field(default="")

    def feed(self, text: str) -> str:
        """Return the text that can be shown now."""
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
        """Return what was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return "" if self.hit else held

    def _tail(self, stop: str) -> int:
        """Return the length of the longest prefix of `stop` that the text ends with."""
        most = min(len(stop) - 1, len(self._held))
        return next((n for n in range(most, 0, -1) if self._held.endswith(stop[:n])), 0)
