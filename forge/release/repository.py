"""The TUF repository in a store: its state is read and verified, edited, and written back.

Of two publishers at once one starts again from what the other wrote.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import Timestamp

from forge.errors import ConflictError
from forge.release.edit import Edit, new_proof_keys
from forge.release.state import DELEGATED, load_state
from forge.release.writer import Writer
from forge.store.objects import Objects
from forge.trust.clock import TOLERANCE, moment

if TYPE_CHECKING:
    from forge.release.keyring import Keyring

__all__ = ["update"]

_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.1
_log = logging.getLogger(__name__)


def update(
    objects: Objects,
    ring: Keyring,
    change: Callable[[Edit], None],
    *,
    now: datetime,
    always: bool = False,
) -> bool:
    """Apply `change` to the newest state and publish it.

    Args:
        objects: the store.
        ring: keys of the roles that change, and of snapshot and timestamp.
        change: called again, on fresh state, when another publisher was faster.
        now: time of the signatures.
        always: sign snapshot and timestamp anew even if nothing else changed.

    Returns:
        Whether anything was written.

    Raises:
        ConflictError: other publishers were faster each time.
        TrustError: what the store holds is not what the trusted keys signed.
        UsageError: a key is missing.
        StoreError: the store is out of reach.
    """
    for attempt in range(_ATTEMPTS):
        state = load_state(objects, ring)
        edit = Edit(
            {role: dict(state.roles[role].signed.targets) for role in DELEGATED},
            functools.partial(new_proof_keys, objects, ring, state),
        )
        change(edit)
        writer = Writer(objects, ring, state, edit, now)
        if not always and not writer.due():
            return False
        if attempt == 0 and state.timestamp and (doubt := _doubt(state.timestamp.signed, now)):
            _log.warning(
                "%s Check this machine's clock: a moment far ahead makes devices without a "
                "clock refuse what comes later.", doubt,
            )  # fmt: skip
        try:
            writer.write()
        except ConflictError:
            if attempt + 1 < _ATTEMPTS:
                time.sleep(random.uniform(0, _FIRST_PAUSE_S * 2**attempt))  # noqa: S311  no secret
            continue
        return True
    raise ConflictError(
        f"Other publishers were faster {_ATTEMPTS} times in {objects.url}",
        why="the timestamp changed between reading and writing it",
        hint="nothing was published; run it again",
    )


def _doubt(newest: Timestamp, now: datetime) -> str:
    """What speaks against this machine's clock; empty if nothing does.

    Said and not refused: a store may have been left alone, and after somebody else's wrong clock
    the right one must be able to sign.
    """
    signed_at = moment(newest.unrecognized_fields.get("signed_at"))
    if signed_at and now < signed_at - TOLERANCE:
        return f"It is {now:%Y-%m-%d} here, and the store was signed on {signed_at:%Y-%m-%d}."
    if now > newest.expires + TOLERANCE:
        return f"It is {now:%Y-%m-%d} here, and the store expired on {newest.expires:%Y-%m-%d}."
    return ""
