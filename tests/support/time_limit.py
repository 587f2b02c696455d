"""A time after which no test begins: CI ends at 90 minutes, however slow its machine is.

`.ci/run` sets FORGE_TEST_UNTIL for the heavy tests, which come last. What is left out is printed
with the reason, and the nightly run has it.
"""

from __future__ import annotations

import os
import time
from typing import Final

__all__ = ["REASON", "reached"]

_UNTIL: Final = "FORGE_TEST_UNTIL"
REASON: Final = f"no time is left for it ({_UNTIL}): run make test-heavy"


def reached() -> bool:
    """Return whether the time in FORGE_TEST_UNTIL, in seconds since 1970, has passed."""
    until = os.environ.get(_UNTIL)
    return bool(until) and time.time() > float(until or 0)
