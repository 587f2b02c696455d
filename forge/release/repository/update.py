"""Update the TUF repository in a store: read and verify its state, edit it, write it back.

When two publishers write at once, one of them repeats its edit on top of what the other wrote.
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
from forge.release.repository.edit import Edit, new_proof_keys
from forge.release.repository.state import DELEGATED, load_state
from forge.release.repository.writer import Writer
from forge.store.backends.protocol import Objects
from forge.trust.clock import TOLERANCE, moment

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring

__all__ = ["update"]

_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.1
_log = logging.getLogger(__name__)


def update(
    objects: Objects,
    keyring: Keyring,
    change: Callable[[Edit], None],
    *,
    now: datetime,
    always: bool = False,
) -> bool:
    """Apply `change` to the newest state and publish the result.

    Args:
        objects: the store.
        keyring: keys of the roles that change, and of snapshot and timestamp.
        change: edits the state; called again on the new state if another publisher wrote first.
        now: time of the signatures.
        always: sign snapshot and timestamp even if nothing else changed.

    Returns:
        Whether anything was written.

    Raises:
        ConflictError: other publishers wrote first at every attempt.
        TrustError: the metadata in the store is not signed by the trusted keys.
        UsageError: a key is missing.
        StoreError: the store cannot be reached.
    """
    for attempt in range(_ATTEMPTS):
        state = load_state(objects, keyring)
        edit = Edit(
            {role: dict(state.roles[role].signed.targets) for role in DELEGATED},
            functools.partial(new_proof_keys, objects, keyring, state),
        )
        change(edit)
        writer = Writer(objects, keyring, state, edit, now)
        if not always and not writer.due():
            return False
        problem = _clock_problem(state.timestamp.signed, now) if state.timestamp else ""
        if attempt == 0 and problem:
            _log.warning(
                "%s Check this machine's clock: after a signature from the future, devices "
                "without a clock refuse later releases.", problem,
            )  # fmt: skip
        try:
            writer.write()
        except ConflictError:
            if attempt + 1 < _ATTEMPTS:
                time.sleep(random.uniform(0, _FIRST_PAUSE_S * 2**attempt))  # noqa: S311  no secret
            continue
        return True
    raise ConflictError(
        f"Other publishers wrote first {_ATTEMPTS} times in {objects.url}",
        why="the timestamp changed between read and write",
        hint="nothing was published; run it again",
    )


def _clock_problem(newest: Timestamp, now: datetime) -> str:
    """Return why this machine's clock may be wrong; empty if it agrees with the store.

    This is a warning and not an error: a store may have expired because it was not refreshed, and
    after a publisher with a wrong clock one with the right clock must be able to sign.
    """
    signed_at = moment(newest.unrecognized_fields.get("signed_at"))
    if signed_at and now < signed_at - TOLERANCE:
        return f"It is {now:%Y-%m-%d} here, and the store was signed on {signed_at:%Y-%m-%d}."
    if now > newest.expires + TOLERANCE:
        return f"It is {now:%Y-%m-%d} here, and the store expired on {newest.expires:%Y-%m-%d}."
    return ""
