"""Events of a device as JSON lines: the stored history, and a stream for other programs.

    history.jsonl    in the state directory, fsynced, newest last, of limited size

The journal alone decides what the device does. A power cut between the two writes may lose a line
of the history.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from forge.device.shared.release import Release, SlotName
from forge.device.state_machine.events import (
    Crashed,
    Failed,
    Fetched,
    GoBackAsked,
    HoldLifted,
    MachineEvent,
    Probed,
    Started,
    Stopped,
    UpdateFound,
)
from forge.device.state_machine.journal import Journal
from forge.files import write_durably

__all__ = [
    "DetectionLog",
    "DeviceEvent",
    "EventFile",
    "EventKind",
    "EventListener",
    "FitLog",
    "History",
    "between",
    "stream",
]

_log = logging.getLogger(__name__)

EventKind = Literal[
    "started",  # the agent
    "detected",  # which profile this machine has, or why that is not known
    "installing",
    "fetched",
    "committed",
    "not-kept",  # activated, and rolled back from
    "failed",  # not activated, for a reason that is not the release's
    "interrupted",  # the agent was restarted while it installed this; it continues
    "crashed",  # the server of the active slot
    "going-back",
    "went-back",
    "hold-lifted",
    "no-longer-fits",  # what serves: after a change of the driver, of L4T, of TensorRT
    "fits-again",
    "verified",  # all files of a slot were read, and are intact
    "damaged",  # a file of a slot is not what was verified
    "repaired",
    "check-failed",  # of the channel: the first of an outage, or for another reason than before
    "check-recovered",  # the channel can be read again
]
_MAX_BYTES: Final = 512 * 1024
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_KEPT_LINES: Final = 250


class DeviceEvent(BaseModel):
    """One event.

    Attributes:
        at: RFC 3339, UTC.
        event: its kind.
        release: the release that it is about.
        slot: the slot of that release.
        reason: text for users.
        fetched_bytes: read from the store for the release.
        reused_bytes: copied from the content of the slots.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: str
    event: EventKind
    release: Release | None = None
    slot: SlotName | None = None
    reason: str = ""
    fetched_bytes: int = 0
    reused_bytes: int = 0

    def line(self) -> bytes:
        """Return the event as one line of JSON."""
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n"


EventListener: TypeAlias = Callable[[DeviceEvent], None]


def between(
    before: Journal, event: MachineEvent, after: Journal, at: str
) -> tuple[DeviceEvent, ...]:
    """Return the events that a transition of the state machine means to users. Pure."""
    candidate, target = after.candidate or before.candidate, after.target or before.target
    active = before.active_release
    found: tuple[DeviceEvent, ...] = ()
    match event:
        case Started(cause=cause):
            started = DeviceEvent(at=at, event="started", release=active, slot=before.active)
            found = (started.model_copy(update={"reason": cause}), *_interrupted(before, after, at))
        case UpdateFound(release) if after.state == "fetching":
            found = (DeviceEvent(at=at, event="installing", release=release, slot=target),)
        case Fetched(fetched_bytes, reused_bytes):
            moved = DeviceEvent(at=at, event="fetched", release=candidate, slot=target)
            bytes_ = {"fetched_bytes": fetched_bytes, "reused_bytes": reused_bytes}
            found = (moved.model_copy(update=bytes_),)
        case Probed():
            back = candidate == before.previous
            kind: EventKind = "went-back" if back else "committed"
            found = (DeviceEvent(at=at, event=kind, release=candidate, slot=target),)
        case Stopped():
            reason = "cancelled by another request; the partial download is kept"
            stopped = DeviceEvent(
                at=at, event="failed", release=candidate, slot=target, reason=reason
            )
            found = (stopped,)
        case Failed(reason, _, release_fault) if candidate is not None:
            tried = release_fault or before.state in {"activating", "probing"}
            kind = "not-kept" if tried else "failed"
            found = (DeviceEvent(at=at, event=kind, release=candidate, slot=target, reason=reason),)
        case Crashed(reason) | GoBackAsked(reason):
            found = _left(before, event, after, at, reason)
        case HoldLifted() if lifted := before.held or before.interrupted:
            found = (DeviceEvent(at=at, event="hold-lifted", release=lifted.release),)
        case _:
            pass
    return found


def _interrupted(before: Journal, after: Journal, at: str) -> tuple[DeviceEvent, ...]:
    """Return what the restart of the agent meant for the candidate."""
    if before.state not in {"staged", "activating", "probing"}:
        return ()
    late = after.interrupted
    kind: EventKind = "interrupted"
    reason = "it is tried again at once"
    if late and late != before.interrupted:
        kind = "failed" if before.state == "staged" else "not-kept"
        reason = late.reason
    found = DeviceEvent(at=at, event=kind, release=before.candidate, slot=before.target)
    return (found.model_copy(update={"reason": reason}),)


def _left(
    before: Journal, event: MachineEvent, after: Journal, at: str, reason: str
) -> tuple[DeviceEvent, ...]:
    found = []
    if isinstance(event, Crashed):
        crashed = DeviceEvent(at=at, event="crashed", release=before.active_release, reason=reason)
        found.append(crashed.model_copy(update={"slot": before.active}))
    if after.state == "activating":
        going = DeviceEvent(at=at, event="going-back", release=after.candidate, slot=after.target)
        found.append(going.model_copy(update={"reason": reason}))
    return tuple(found)


class History:
    """The file `history.jsonl` of a state directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "history.jsonl"

    def append(self, happened: DeviceEvent) -> None:
        """Append an event durably. Raises OSError."""
        if self._size() > _MAX_BYTES:
            kept = b"".join(one.line() for one in self.read()[-_KEPT_LINES:])
            write_durably(self._path, kept)
        with self._path.open("a+b") as file:
            # A line that a power cut truncated must not be joined with the next one.
            end = file.seek(0, os.SEEK_END)
            torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            file.write((b"\n" if torn else b"") + happened.line())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[DeviceEvent]:
        """Return all events that are valid, oldest first. Raises OSError."""
        try:
            with self._path.open("rb") as file:
                lines = file.read(2 * _MAX_BYTES).splitlines()
        except FileNotFoundError:
            return []
        return [one for line in lines if (one := _parse(line))]

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


class DetectionLog:
    """Logs every new decision about this machine's profile, and adds it to the history.

    A decision that is the last one of the history already is not added again, so that an agent
    that a timer starts every minute does not fill it.

    Args:
        folder: the state directory.
        notify: gets the event.
        now: RFC 3339.
    """

    def __init__(self, folder: Path, notify: EventListener, now: Callable[[], str]) -> None:
        self._notify = notify
        self._now = now
        self._logged = ""
        self._kept = _last_detected(folder)

    def note(self, decision: str) -> None:
        """Note a decision with its reasons."""
        if decision != self._logged:
            self._logged = decision
            _log.info("%s", decision)
        if decision != self._kept:
            self._kept = decision
            self._notify(DeviceEvent(at=self._now(), event="detected", reason=decision))


class FitLog:
    """Logs that what serves does not fit this machine any more, and that it does again.

    Each is added to the history once, as by `DetectionLog`.

    Args:
        folder: the state directory.
        notify: gets the event.
        now: RFC 3339.
    """

    def __init__(self, folder: Path, notify: EventListener, now: Callable[[], str]) -> None:
        self._folder = folder
        self._notify = notify
        self._now = now
        self._kept: str | None = None  # the reason in the history; None: not read yet

    @property
    def unfit(self) -> str:
        """Why what serves does not fit; "" if it does."""
        return self._kept or ""

    def note(self, release: Release | None, unfit: str) -> None:
        """Note what was found for the release that serves; "": it fits."""
        if self._kept is None:
            last = _last(self._folder, ("no-longer-fits", "fits-again"))
            self._kept = last.reason if last else ""
        if unfit == self._kept:
            return
        self._kept = unfit
        kind: EventKind = "no-longer-fits" if unfit else "fits-again"
        _log.warning("%s %s", release, f"no longer fits: {unfit}" if unfit else "fits again")
        self._notify(DeviceEvent(at=self._now(), event=kind, release=release, reason=unfit))


def _last_detected(folder: Path) -> str:
    last = _last(folder, ("detected",))
    return last.reason if last else ""


def _last(folder: Path, kinds: tuple[EventKind, ...]) -> DeviceEvent | None:
    """Return the last event of some kinds."""
    try:
        events = History(folder).read()
    except OSError:
        return None
    return next((one for one in reversed(events) if one.event in kinds), None)


def stream(file: IO[bytes]) -> EventListener:
    """Return a listener that writes each event to a stream at once."""

    def write(happened: DeviceEvent) -> None:
        file.write(happened.line())
        file.flush()

    return write


class EventFile:
    """A file or pipe of JSON lines; a full file is renamed to `NAME.1`, replacing the last one.

    Args:
        path: the file to append to. Raises OSError.
        max_bytes: size at which a file is full.
    """

    def __init__(self, path: Path, max_bytes: int = _MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab")

    def write(self, happened: DeviceEvent) -> None:
        """Write one event. Raises OSError, which may concern the rotation after the write."""
        stream(self._file)(happened)
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size >= self._max_bytes:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            full, self._file = self._file, self._path.open("ab")
            full.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _parse(line: bytes) -> DeviceEvent | None:
    try:
        return DeviceEvent.model_validate_json(line)
    except ValidationError:
        return None
