"""The device's state directory: the journal, the link to the active slot, and the lock.

device.json                what this device was provisioned with (forge.device.state.settings)
root.json                  the root metadata that all trust starts from
state.json                 the journal (forge.device.state_machine.journal)
slots/a, slots/b           the two slots (forge.device.state.slots)
engines/                   engines compiled here, by key (forge.serving.on_device_compile)
current                    link to the slot that passed its probe last
tuf/                       trusted metadata
environments/              virtual environments made from the slots' locks
tmp/                       emptied at every start
history.jsonl              what happened, the newest last
seen.json                  what each version contained (forge.device.state.seen_versions)
served-on.json             on which driver, L4T, TensorRT each release served (state.served_on)
run.json                   how the agent's last run began and ended (forge.device.update.last_run)
asked.json                 an operator's request to the running agent
lock                       held by the one agent; its process id
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.state import disk_errors, lock
from forge.device.state.slots import Slots
from forge.device.state_machine.journal import Journal
from forge.errors import UsageError
from forge.files import fsync_directory, write_durably

__all__ = ["StateDirectory"]

_MAX_STATE_BYTES: Final = 4 * 1024 * 1024
_SWITCHING: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """A state directory (`/var/lib/forge`). Every write is durable when its method returns."""

    path: Path

    @property
    def slots(self) -> Slots:
        """The two slots."""
        return Slots(self.path)

    @property
    def tuf(self) -> Path:
        """Folder of the TUF client."""
        return self.path / "tuf"

    @property
    def environments(self) -> Path:
        """Folder of the virtual environments."""
        return self.path / "environments"

    @property
    def tmp(self) -> Path:
        """Folder for what no restart needs."""
        return self.path / "tmp"

    @property
    def logs(self) -> Path:
        """Folder of the servers' logs."""
        return self.path / "logs"

    @property
    def engines(self) -> Path:
        """Folder of the engines compiled here."""
        return self.path / "engines"

    def journal(self) -> Journal:
        """Read the journal, or make one from `current` if it is lost or damaged.

        Raises:
            ConfigurationError: this user may not read it.
            StoreError: the disk fails.
        """
        try:
            with (self.path / "state.json").open("rb") as file:
                journal = Journal.model_validate_json(file.read(_MAX_STATE_BYTES))
                return journal.without_restarts()
        except (FileNotFoundError, ValidationError):
            return self._recovered()
        except OSError as error:
            raise disk_errors.unreadable(self.path, error) from None

    def write_journal(self, journal: Journal) -> None:
        """Replace the journal. Raises StoreError for a full disk, else ConfigurationError."""
        try:
            write_durably(self.path / "state.json", journal.encode())
        except OSError as error:
            raise disk_errors.unwritable(self.path, error) from None

    def current(self) -> SlotName | None:
        """Return the slot that `current` points to."""
        try:
            target = (self.path / "current").readlink().name
        except OSError:
            return None
        return next((slot for slot in SLOTS if slot == target), None)

    def switch(self, slot: SlotName) -> None:
        """Point `current` to `slot`: readers see the old slot or this one, never none.

        Raises as `write_journal`.
        """
        new = self.path / ".current.new"
        try:
            with _SWITCHING:  # the agent's main thread and its worker may both do it
                new.unlink(missing_ok=True)
                new.symlink_to(Path("slots") / slot)
                new.replace(self.path / "current")
                fsync_directory(self.path)
        except OSError as error:
            raise disk_errors.unwritable(self.path, error) from None

    def clean(self) -> None:
        """Remove what a killed agent left in tmp/ and next to the state files.

        Raises as `write_journal`.
        """
        try:
            for folder in (self.tmp, *self.engines.glob(".tmp-*")):
                shutil.rmtree(folder, ignore_errors=True)
            for left in (*self.path.glob(".tmp-*"), *self.path.glob("slots/*/.tmp-*")):
                left.unlink(missing_ok=True)
            for name in ("slots", "tmp", "tuf", "environments", "engines", "logs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            for slot in SLOTS:
                self.slots.install(slot)
        except OSError as error:
            raise disk_errors.unwritable(self.path, error) from None

    def free_mib(self) -> int:
        """Return the free disk space for the state directory, MiB; 0 if it cannot be read."""
        return disk_errors.free_mib(self.path)

    def holder(self) -> int | None:
        """Return the process id of the running agent, None if none runs. Raises as `journal`."""
        try:
            return lock.holder(self.path / "lock")
        except OSError as error:
            raise disk_errors.unreadable(self.path, error) from None

    def require_owner(self) -> None:
        """Refuse to run as root in a directory of another user, who could not write root's files.

        Other users are checked by the kernel: in Kubernetes the volume belongs to root, and the
        agent writes to it by its group.

        Raises:
            UsageError: names the owner.
            StoreError, ConfigurationError: the directory cannot be read.
        """
        try:
            owner = self.path.stat().st_uid
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_errors.unreadable(self.path, error) from None
        if os.geteuid() != 0 or owner == 0:
            return
        name = _user(owner)
        message = f"The state folder {self.path} belongs to {name}, and this is root"
        why = "the device's service could not write the files that root would leave there"
        hint = f"run it as {name}: sudo -u {name} forge device … --state {self.path}"
        raise UsageError(message, why=why, hint=hint)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the only agent for the body. Raises UsageError that names another one.

        And as `require_owner`.
        """
        with contextlib.ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self.require_owner()
                held.enter_context(lock.hold(self.path / "lock"))
            except OSError as error:
                raise disk_errors.unwritable(self.path, error) from None
            yield

    def _recovered(self) -> Journal:
        active = self.current()
        manifest = self.slots.manifest(active) if active else None
        if active is None or manifest is None:
            return Journal()
        return Journal(active=active, slots={active: Release.of(manifest)})


def _user(number: int) -> str:
    """Return the name of a user, or the number as sudo takes it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"'#{number}'"
