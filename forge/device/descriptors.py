"""How many files and connections this process and what it starts may have open."""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["allow_many"]

_MANY: Final = 65536  # as the systemd unit says; some programs look at every one they could have


def allow_many() -> int:
    """Raise the soft limit towards the hard one; returns what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    wanted = _MANY if hard == infinite else min(_MANY, hard)
    if soft == infinite or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
