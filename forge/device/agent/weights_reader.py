"""Read all files of the slots in the background: after each boot, and on a schedule.

Before a start only code and configuration are hashed (forge.device.state.integrity): weights are
too large for that. They are read here, one file after another, by a thread of idle priority and
limited rate, and only while no update is under way. How far it is survives a restart of the agent,
by whole files.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device.agent.background_read import idle_priority, sha256_slowly
from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.shared.times import seconds_between
from forge.device.state import integrity
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import (
    SlotReading,
    WeightsRecord,
    read_record,
    write_record,
)
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.repeated_errors import RepeatedErrors
from forge.progress import bytes_text
from forge.store.backends.throttle import RateLimit
from forge.store.formats.tree import TreeEntry

__all__ = ["DamageFound", "ReadingSchedule", "WeightsReader"]

_log = logging.getLogger(__name__)

_LOOK_S: Final = 60.0
_JOIN_S: Final = 5.0
_DAY_S: Final = 86_400.0
_WRITE_BYTES: Final = 32 * 1024 * 1024  # a restart of the agent reads no more than this again


@dataclass(frozen=True, slots=True)
class ReadingSchedule:
    """When and how fast the files of the slots are read.

    Attributes:
        bytes_per_s: the most that is read.
        every_s: seconds between two readings of a slot; 0: never.
        after_s: seconds after the agent's start until the first one.
    """

    bytes_per_s: int = 20_000_000
    every_s: float = 7 * _DAY_S
    after_s: float = 300.0

    def due(self, reading: SlotReading, boot: str, now: str) -> bool:
        """Return whether a slot is to be read, or its reading continued. Pure."""
        if not self.every_s or reading.damaged:  # what is damaged is repaired first
            return False
        if reading.began or reading.finished is None or reading.boot != boot:
            return True
        return seconds_between(reading.finished, now) >= self.every_s


@dataclass(frozen=True, slots=True)
class DamageFound:
    """Files of a slot have other bytes than when they were verified.

    Attributes:
        slot: which.
        release: in it.
        what: the file, and what is wrong.
    """

    slot: SlotName
    release: Release
    what: str


class _StoppedError(Exception):
    """The agent stops, or the slot gets another release."""


class WeightsReader:
    """Reads the slots of one device in a thread of its own.

    Args:
        home: the state directory.
        schedule: when, and how fast.
        found: called with each damage, from the thread.
        ended: called with a slot and its release after a complete reading, from the thread.
        now: RFC 3339.
        boot: the kernel's boot id.
    """

    def __init__(
        self,
        home: StateDirectory,
        schedule: ReadingSchedule,
        found: Callable[[DamageFound], None],
        ended: Callable[[SlotName, Release, int], None],
        now: Callable[[], str],
        boot: str,
    ) -> None:
        self._home = home
        self._schedule = schedule
        self._found = found
        self._ended = ended
        self._now = now
        self._boot = boot
        self._stop = threading.Event()
        self._may_read = threading.Event()
        self._slots: dict[SlotName, Release] = {}
        self._lock = threading.Lock()  # of the record
        self._record: WeightsRecord | None = None
        self._limit = RateLimit(schedule.bytes_per_s, time.monotonic, self._sleep)
        self._errors = RepeatedErrors(_log)
        self._thread: threading.Thread | None = None

    @property
    def record(self) -> WeightsRecord:
        """What is known now."""
        with self._lock:
            if self._record is None:
                self._record = read_record(self._home.path)
            return self._record

    def start(self) -> None:
        """Begin, unless it runs already or the schedule says never."""
        if self._thread is None and self._schedule.every_s:
            self._thread = threading.Thread(target=self._run, name="agent-weights", daemon=True)
            self._thread.start()

    def allow(self, journal: Journal | None) -> None:
        """Let it read the slots of this journal, the active one first; None: pause at once."""
        if journal is None:
            self._may_read.clear()
            return
        order = sorted(SLOTS, key=lambda slot: slot != journal.active)
        self._slots = {slot: journal.slots[slot] for slot in order if slot in journal.slots}
        self._may_read.set()

    def repaired(self, slot: SlotName, release: Release) -> None:
        """Note that a slot was repaired: every byte of it is right."""
        self._note(slot, self.record.of(slot, release).done(self._now(), self._boot))

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._may_read.set()
        if self._thread:
            self._thread.join(_JOIN_S)

    def read_due(self) -> bool:
        """Read the next slot that is due, to its end; return whether there was one.

        Called by the thread.
        """
        for slot, release in self._slots.items():
            reading = self.record.of(slot, release)
            if self._schedule.due(reading, self._boot, self._now()):
                self._read(slot, release, reading)
                return True
        return False

    def _run(self) -> None:
        idle_priority()
        self._stop.wait(self._schedule.after_s)
        while not self._stop.is_set():
            try:
                again = self._may_read.wait(_LOOK_S) and self.read_due()
            except _StoppedError:
                again = False
            except OSError as error:  # the disk fails, which a start of the slot tells apart
                self._errors.error(f"the slots cannot be read in the background: {error}")
                again = False
            except Exception:  # noqa: BLE001 - a bug, which must not end what serves
                _log.exception("a bug in Forge, please report it:")
                return
            if not again:
                self._stop.wait(_LOOK_S)

    def _read(self, slot: SlotName, release: Release, reading: SlotReading) -> None:
        manifest = self._home.slots.manifest(slot)
        tree = integrity.kept_tree(self._home, slot, manifest.tree.digest) if manifest else None
        if manifest is None or tree is None or Release.of(manifest) != release:
            self._damage(slot, release, reading, integrity.Damage("tree.json", "is lost"))
            return
        if reading.began is None:
            began = {"began": self._now(), "after": "", "read_bytes": 0}
            reading = reading.model_copy(update={**began, "total_bytes": manifest.tree.size})
            _log.info("reading slot %s (%s)", slot, bytes_text(manifest.tree.size))
        folder, written = self._home.slots.tree(slot), reading.read_bytes
        for entry in sorted(tree.entries, key=lambda one: one.path):
            if entry.path <= reading.after:
                continue
            what = integrity.check_file(folder, entry, self._content(slot, release))
            if what:
                self._damage(slot, release, reading, integrity.Damage(entry.path, what))
                return
            size = reading.read_bytes + entry.size
            reading = reading.model_copy(update={"after": entry.path, "read_bytes": size})
            self._note(slot, reading, durably=size - written >= _WRITE_BYTES)
            written = size if size - written >= _WRITE_BYTES else written
        self._note(slot, reading.done(self._now(), self._boot))
        self._ended(slot, release, reading.read_bytes)

    def _content(self, slot: SlotName, release: Release) -> Callable[[TreeEntry, Path], str]:
        def check() -> None:
            self._may_read.wait()
            if self._stop.is_set() or self._slots.get(slot) != release:
                raise _StoppedError

        def content(entry: TreeEntry, path: Path) -> str:
            same = sha256_slowly(path, self._limit, check) == entry.sha256
            return "" if same else "has other bytes"

        return content

    def _damage(
        self, slot: SlotName, release: Release, reading: SlotReading, damage: integrity.Damage
    ) -> None:
        if self._stop.is_set() or self._slots.get(slot) != release or not self._may_read.is_set():
            raise _StoppedError  # an update replaces the slot's files
        found = {"damaged": (damage.path,), "began": None, "after": ""}
        self._note(slot, reading.model_copy(update=found))
        self._found(DamageFound(slot, release, str(damage)))

    def _note(self, slot: SlotName, reading: SlotReading, *, durably: bool = True) -> None:
        record = self.record.with_slot(slot, reading)
        with self._lock:
            self._record = record
            if not durably:
                return
            try:
                write_record(self._home.path, record)
            except OSError as error:  # a full disk: the agent knows it as long as it runs
                self._errors.error(f"what was read of the slots cannot be noted: {error}")

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)
