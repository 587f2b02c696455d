"""Which worker of pytest-xdist gets which tests.

Only `tests/conftest.py` imports this: pytest warns, and so fails here, where a plugin such as
pytest-xdist is imported before pytest starts, as `python -m tests.support.groups` would do.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.support.groups import scope

__all__ = ["Scheduler"]


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # it is untyped
    """Give each worker of pytest-xdist whole scopes, those of most tests first.

    `--dist loadgroup` is not used: pytest-xdist 3.8 sets an attribute for it that pytest 9.2 does
    not read any more, so every test is a group of its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
