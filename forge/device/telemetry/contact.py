"""The device's contact with its store: when the channel was last read, and since when it is not.

    contact.json    in the state directory; it survives restarts and `forge device run --once`

The first failed check of an outage, each one that fails for another reason, and the end of the
outage are logged and added to the history. Further checks that fail alike are counted only.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.device.shared.release import Release
from forge.device.shared.times import Beginning, Timestamp, is_set, lasted_s
from forge.device.state.settings import read_settings
from forge.device.telemetry.history import DeviceEvent, EventListener
from forge.errors import FitError, ForgeError, UsageError
from forge.files import write_durably
from forge.progress import duration_text

__all__ = ["ContactLog", "Followed", "StoreContact", "alike", "read_contact"]

_log = logging.getLogger(__name__)

_FILE: Final = "contact.json"
_MAX_BYTES: Final = 64 * 1024
_MAX_ERROR: Final = 8192
_VARIES: Final = re.compile(
    r"\d{4}-\d\d-\d\dT[0-9:.]+Z?"  # a time
    r"|\d+(\.\d+)?(?= ?(s|ms|min|h|days?|seconds?|bytes|[kKMGT]i?B)\b)"  # a size or a duration
    r"|\b[0-9A-Fa-f][0-9A-Fa-f-]{11,}\b"  # the identity of a request
)


class Followed(BaseModel):
    """What the device follows: a channel of a bundle in a store."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    store_url: str
    name: str
    channel: str


class StoreContact(BaseModel):
    """What is known of the store.

    Attributes:
        followed: what the rest is known of; None: the settings could not be read.
        last_contact: when the channel was last read and its signatures were valid; RFC 3339.
        offered: what the channel pointed to then, for this machine.
        behind_since: when it began that something else serves; None: what is offered serves.
        failing_since: the first of the checks that have failed to read the channel since; None: the
            last one has read it.
        failures: how many have failed in a row, either to read the channel or to find in it what
            is for this machine.
        error: of the last one.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    followed: Followed | None = None
    last_contact: Timestamp | None = None
    offered: Release | None = None
    behind_since: Timestamp | None = None
    failing_since: Timestamp | None = None
    failures: int = Field(default=0, ge=0)
    error: Annotated[str, Field(max_length=_MAX_ERROR)] = ""

    def succeeded(self, offered: Release, active: Release | None, at: str) -> StoreContact:
        """Return the contact after a check that found this release, while another serves. Pure."""
        found = StoreContact(
            followed=self.followed, last_contact=at, offered=offered, behind_since=self.behind_since
        )
        return found.serves(active, at)

    def serves(self, active: Release | None, at: str) -> StoreContact:
        """Return the contact of a device of which this release serves. Pure."""
        behind = self.offered is not None and self.offered != active
        known = self.behind_since if is_set(self.behind_since) else at
        since = known if behind else None
        return self.model_copy(update={"behind_since": since})

    def failed(self, error: ForgeError, at: str, since: str | None = None) -> StoreContact:
        """Return the contact after a check that failed. Pure.

        A machine for which the channel has no profile has read the channel all the same. What it
        offered before, it does not offer any more. `since`: when the outage began, where that is
        known better than from what was written.
        """
        found: dict[str, object] = {"error": str(error)[:_MAX_ERROR]}
        if isinstance(error, FitError | UsageError):
            count = self.failures + 1 if self.failing_since is None else 1
            found |= {"last_contact": at, "offered": None, "behind_since": None}
            return self.model_copy(update=found | {"failing_since": None, "failures": count})
        count = self.failures + 1 if self.failing_since else 1
        since = since or self.failing_since or at
        return self.model_copy(update=found | {"failing_since": since, "failures": count})

    def offline_s(self, now: str) -> float:
        """Return for how long the channel could not be read, seconds; 0 if it was read last."""
        return lasted_s(self.failing_since, now)


class ContactLog:
    """Keeps the contact of one device. Used by the agent's main thread only.

    Args:
        folder: the state directory.
        notify: gets an event when an outage begins, changes its reason, or ends.
        now: RFC 3339.
        clock: returns seconds that no setting of the clock changes.
    """

    def __init__(
        self,
        folder: Path,
        notify: EventListener,
        now: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._notify = notify
        self._now = now
        self._clock = clock
        self._contact: StoreContact | None = None  # not read yet
        self._outage: Beginning | None = None  # of one that began while this agent ran

    @property
    def contact(self) -> StoreContact:
        """The contact as it is known now."""
        if self._contact is None:
            self._contact = read_contact(self._folder)
        return self._contact

    def succeeded(self, offered: Release, active: Release | None) -> None:
        """Note a check that read the channel, and what serves then."""
        before, at = self.contact, self._now()
        self._outage = None
        self._set(before.succeeded(offered, active, at))
        if before.failures:
            self._tell_end(before, at)

    def failed(self, error: ForgeError) -> None:
        """Note a check that failed."""
        before, at = self.contact, self._now()
        self._set(before.failed(error, at, self._outage_since(before)))
        if self.contact.failing_since is None:
            self._outage = None
        if before.failing_since and self.contact.failing_since is None:
            self._tell_end(before, at)
        if not before.failures or not alike(before.error, str(error)):
            self._notify(DeviceEvent(at=at, event="check-failed", reason=str(error)))

    def serves(self, active: Release | None) -> None:
        """Note what serves now."""
        before = self.contact
        if (after := before.serves(active, self._now())) != before:
            self._set(after)

    def _outage_since(self, before: StoreContact) -> str | None:
        """Return when the outage began, if that was while this agent ran."""
        if self._outage is None and not is_set(before.failing_since):
            self._outage = Beginning(self._now, self._clock)
        return self._outage.at if self._outage else None

    def _tell_end(self, before: StoreContact, at: str) -> None:
        checks = "1 check" if before.failures == 1 else f"{before.failures} checks"
        if before.failing_since:
            lasted = duration_text(before.offline_s(at))
            text = f"the store is back after {lasted} in which {checks} failed"
        else:
            text = f"the channel has a bundle for this machine again, after {checks} failed"
        _log.info("%s", text)
        self._notify(DeviceEvent(at=at, event="check-recovered", reason=text))

    def _set(self, contact: StoreContact) -> None:
        self._contact = contact
        with contextlib.suppress(OSError):  # a full disk: the agent knows it as long as it runs
            data = canonical.dumps(contact.model_dump(mode="json"))
            write_durably(self._folder / _FILE, data)


def read_contact(folder: Path) -> StoreContact:
    """Return what a state directory says of what the device follows; empty where that is lost.

    What was known of another store or channel, before `forge device provision` named this one, is
    not known of this one.
    """
    followed = _followed(folder)
    try:
        with (folder / _FILE).open("rb") as file:
            found = StoreContact.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return StoreContact(followed=followed)
    return found if followed in {None, found.followed} else StoreContact(followed=followed)


def _followed(folder: Path) -> Followed | None:
    try:
        settings, _ = read_settings(folder)
    except ForgeError:
        return None
    return Followed(store_url=settings.store_url, name=settings.name, channel=settings.channel)


def alike(one: str, another: str) -> bool:
    """Return whether two messages differ in sizes, times and identities only, not in versions."""
    return _VARIES.sub("#", one) == _VARIES.sub("#", another)
