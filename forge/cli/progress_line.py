"""A line that shows the progress of a command on a terminal, and is gone afterwards.

Without a terminal nothing is printed: the output of a command is its result.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final

from forge.progress import ProgressMeter, Throttle
from forge.wrapping import shortened, shown_width

__all__ = ["progress_line"]

_CLEAR: Final = "\r\x1b[K"
_EVERY_S: Final = 0.2


@contextlib.contextmanager
def progress_line(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback for (bytes done, bytes in total), which draws the line on standard error.

    Args:
        what: what is done, in front of the figures.
    """
    out = sys.stderr
    if not out.isatty():
        yield lambda _done, _total: None
        return
    meter, throttle, width = ProgressMeter(), Throttle(_EVERY_S), shown_width(out) or 80

    def progress(done: int, total: int) -> None:
        text = meter.text(done, total)
        if throttle.due():
            out.write(f"{_CLEAR}{shortened(f'{what}: {text}', width - 1)}")
            out.flush()

    try:
        yield progress
    finally:
        out.write(_CLEAR)
        out.flush()
