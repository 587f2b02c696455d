"""Key files that are fast to make and to open: their cost is for thieves, and no test's question.

`forge` commands that a test starts keep the real cost.
"""

from __future__ import annotations

from forge.release.keys import pkcs8

__all__ = ["use"]


def use() -> None:
    """Lower the cost in this process."""
    pkcs8.COST = pkcs8.ScryptCost(n=2**4, r=8, p=1)
