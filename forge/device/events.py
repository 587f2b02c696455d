"""What happened on a device, as JSON lines: the history it keeps, and a stream for whoever listens.

    history.jsonl    in the state folder, fsynced, the newest last, bounded

The journal alone decides what the device does. A power cut between the two may lose a line here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from forge.device.journal import Journal, Release, SlotName
from forge.device.moves import (
    Crashed,
    Event,
    Failed,
    Fetched,
    GoBackAsked,
    HoldLifted,
    Probed,
    Started,
    Stopped,
    UpdateFound,
)
from forge.files import write_durably

__all__ = ["EventFile", "Happened", "History", "Kind", "Tell", "between", "stream"]

Kind = Literal[
    "started",  # the agent
    "installing",
    "fetched",
    "committed",
    "not-kept",  # tried, and gone back from
    "failed",  # not tried, through no fault of the release
    "crashed",  # the server of the active slot
    "going-back",
    "went-back",
    "hold-lifted",
    "repaired",
]
_MAX_BYTES: Final = 512 * 1024
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_KEPT_LINES: Final = 250


class Happened(BaseModel):
    """One event.

    Attributes:
        at: RFC 3339, UTC.
        event: what.
        release: which it is about.
        slot: where that release is.
        reason: for people.
        fetched_bytes: read from the store for it.
        reused_bytes: taken from what the slots held.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: str
    event: Kind
    release: Release | None = None
    slot: SlotName | None = None
    reason: str = ""
    fetched_bytes: int = 0
    reused_bytes: int = 0

    def line(self) -> bytes:
        """One line of JSON."""
        return self.model_dump_json(exclude_defaults=True).encode() + b"\n"


Tell: TypeAlias = Callable[[Happened], None]


def between(before: Journal, event: Event, after: Journal, at: str) -> tuple[Happened, ...]:
    """What a step of the state machine means to people. Pure."""
    candidate, target = after.candidate or before.candidate, after.target or before.target
    active = before.active_release
    found: tuple[Happened, ...] = ()
    match event:
        case Started():
            found = (Happened(at=at, event="started", release=active, slot=before.active),)
            if len(after.rollbacks) > len(before.rollbacks):  # it killed the agent too often
                reason = after.rollbacks[-1].reason
                kept = Happened(at=at, event="not-kept", release=before.candidate, reason=reason)
                found = (*found, kept.model_copy(update={"slot": before.target}))
        case UpdateFound(release) if after.state == "fetching":
            found = (Happened(at=at, event="installing", release=release, slot=target),)
        case Fetched(fetched_bytes, reused_bytes):
            moved = Happened(at=at, event="fetched", release=candidate, slot=target)
            bytes_ = {"fetched_bytes": fetched_bytes, "reused_bytes": reused_bytes}
            found = (moved.model_copy(update=bytes_),)
        case Probed():
            back = candidate == before.previous
            kind: Kind = "went-back" if back else "committed"
            found = (Happened(at=at, event=kind, release=candidate, slot=target),)
        case Stopped():
            reason = "something else was asked for; what came is kept"
            stopped = Happened(at=at, event="failed", release=candidate, slot=target, reason=reason)
            found = (stopped,)
        case Failed(reason, _, blame) if candidate is not None:
            tried = blame or before.state in {"activating", "probing"}
            kind = "not-kept" if tried else "failed"
            found = (Happened(at=at, event=kind, release=candidate, slot=target, reason=reason),)
        case Crashed(reason) | GoBackAsked(reason):
            found = _left(before, event, after, at, reason)
        case HoldLifted() if before.held:
            found = (Happened(at=at, event="hold-lifted", release=before.held.release),)
        case _:
            pass
    return found


def _left(
    before: Journal, event: Event, after: Journal, at: str, reason: str
) -> tuple[Happened, ...]:
    found = []
    if isinstance(event, Crashed):
        crashed = Happened(at=at, event="crashed", release=before.active_release, reason=reason)
        found.append(crashed.model_copy(update={"slot": before.active}))
    if after.state == "activating":
        going = Happened(at=at, event="going-back", release=after.candidate, slot=after.target)
        found.append(going.model_copy(update={"reason": reason}))
    return tuple(found)


class History:
    """`history.jsonl` of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "history.jsonl"

    def append(self, happened: Happened) -> None:
        """Durable when it returns. Raises OSError."""
        if self._size() > _MAX_BYTES:
            kept = b"".join(one.line() for one in self.read()[-_KEPT_LINES:])
            write_durably(self._path, kept)
        with self._path.open("a+b") as file:
            # What a power cut tore must not swallow the next line.
            end = file.seek(0, os.SEEK_END)
            torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            file.write((b"\n" if torn else b"") + happened.line())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Happened]:
        """All that can be read, the oldest first. Raises OSError."""
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


def stream(file: IO[bytes]) -> Tell:
    """Writes each event to a stream as it happens."""

    def tell(happened: Happened) -> None:
        file.write(happened.line())
        file.flush()

    return tell


class EventFile:
    """A file or pipe of JSON lines; a file that is full becomes `NAME.1`, over the one before.

    Args:
        path: appended to. Raises OSError.
        max_bytes: when a file is full.
    """

    def __init__(self, path: Path, max_bytes: int = _MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab")

    def tell(self, happened: Happened) -> None:
        """Write one event. Raises OSError, after the event was written if that could be."""
        stream(self._file)(happened)
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size >= self._max_bytes:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            full, self._file = self._file, self._path.open("ab")
            full.close()

    def close(self) -> None:
        """Close it."""
        self._file.close()


def _parse(line: bytes) -> Happened | None:
    try:
        return Happened.model_validate_json(line)
    except ValidationError:
        return None
