"""The device's state folder: two slots, the link to the one that serves, and the journal.

device.json                what this device was provisioned with
root.json                  the root metadata all trust starts from
state.json                 the journal (forge.device.journal)
slots/a, slots/b           tree/ (the bundle), tree.json (its digests), proofs/, manifest.json;
                           engine/ if it was compiled here
engines/                   engines compiled here, by key (forge.serving.compile)
current                    link to the slot that passed its probe last
tuf/                       trusted metadata
environments/              virtual environments made from the slots' locks
tmp/                       emptied at every start
history.jsonl              what happened, the newest last
asked.json                 what somebody asked the running agent to do
lock                       held by the one agent; its process id
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.bundle import MAX_DOCUMENT_BYTES, Manifest, parse_manifest
from forge.device import lock
from forge.device.journal import SLOTS, Journal, Release, SlotName, other
from forge.errors import ConfigurationError, ForgeError, StoreError, TrustError, UsageError
from forge.files import fsync_directory, write_durably
from forge.store.trees import MAX_TREE_BYTES

__all__ = ["LEAST_RATE", "MAX_MIRRORS", "Home", "Provisioned"]

MAX_MIRRORS: Final = 8
LEAST_RATE: Final = 1024
_CONTENT: Final = ("manifest.json", "tree.json", "proofs", "engine", "tree")  # of a slot
_MAX_STATE_BYTES: Final = 4 * 1024 * 1024
_ILL: Final = "see what dmesg says of the disk, check its file system and mount it writable"
_DISK_HINTS: Final = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space",
    errno.EROFS: _ILL,
    errno.EIO: _ILL,
    errno.EUCLEAN: _ILL,
}


class Provisioned(BaseModel):
    """What somebody told this device once: where updates come from and which.

    `schema_version` is 1 in files from before there were mirrors, which do not have it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1, 2] = 1
    store_url: str
    name: str
    channel: str
    profile: str | None = None
    mirrors: tuple[str, ...] = Field(default=(), max_length=MAX_MIRRORS)
    limit_rate: int | None = Field(default=None, ge=LEAST_RATE)  # bytes a second


@dataclass(frozen=True, slots=True)
class Home:
    """A state folder (`/var/lib/forge`). Every write is durable when its method returns."""

    path: Path

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

    def slot(self, slot: SlotName) -> Path:
        """Folder of one slot."""
        return self.path / "slots" / slot

    def tree(self, slot: SlotName) -> Path:
        """Folder of the bundle in a slot."""
        return self.slot(slot) / "tree"

    def proofs(self, slot: SlotName) -> Path:
        """Folder of the proofs of the bundle in a slot."""
        return self.slot(slot) / "proofs"

    def compiled(self, slot: SlotName) -> Path:
        """Folder of a slot's engine where the device compiled it itself."""
        return self.slot(slot) / "engine"

    def provision(self, device: Provisioned, root_bytes: bytes) -> None:
        """Write down where updates come from. Raises as `write_journal`."""
        try:
            write_durably(self.path / "root.json", root_bytes)
            write_durably(self.path / "device.json", canonical.dumps(device.model_dump()))
        except OSError as error:
            raise self._unwritable(error) from None

    def provisioned(self) -> tuple[Provisioned, bytes]:
        """What `provision` wrote: the device and its root metadata.

        A root that is lost is empty: the TUF client refuses it and says what to do, and a device
        that has a bundle goes on serving it.

        Raises:
            ConfigurationError: the device is not set up, or its settings cannot be read.
            StoreError: the disk fails.
        """
        command = "forge device provision --store URL --root root.json --name NAME"
        hint = f"{command} --state {self.path}"
        try:
            device = Provisioned.model_validate_json((self.path / "device.json").read_bytes())
            root = self.path / "root.json"
            return device, root.read_bytes() if root.exists() else b""
        except FileNotFoundError:
            message = f"The device in {self.path} is not set up"
            raise ConfigurationError(message, hint=hint) from None
        except OSError as error:
            raise self._unreadable(error) from None
        except ValidationError as error:
            message = f"The device's settings in {self.path} cannot be read"
            raise ConfigurationError(message, why=str(error), hint=hint) from None

    def journal(self) -> Journal:
        """The journal, or a new one made from `current` if it is lost or damaged.

        Raises:
            ConfigurationError: nobody may read it.
            StoreError: the disk fails.
        """
        try:
            with (self.path / "state.json").open("rb") as file:
                return Journal.model_validate_json(file.read(_MAX_STATE_BYTES))
        except (FileNotFoundError, ValidationError):
            return self._recovered()
        except OSError as error:
            raise self._unreadable(error) from None

    def write_journal(self, journal: Journal) -> None:
        """Durable when it returns. Raises StoreError for a full disk, else ConfigurationError."""
        try:
            write_durably(self.path / "state.json", canonical.dumps(journal.model_dump()))
        except OSError as error:
            raise self._unwritable(error) from None

    def current(self) -> SlotName | None:
        """The slot `current` points to."""
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
            new.unlink(missing_ok=True)
            new.symlink_to(Path("slots") / slot)
            new.replace(self.path / "current")
            fsync_directory(self.path)
        except OSError as error:
            raise self._unwritable(error) from None

    def manifest(self, slot: SlotName) -> Manifest | None:
        """Manifest of the bundle in a slot, None while the slot is not complete."""
        try:
            with (self.slot(slot) / "manifest.json").open("rb") as file:
                return parse_manifest(file.read(MAX_DOCUMENT_BYTES + 1))
        except (FileNotFoundError, TrustError):
            return None

    def tree_document(self, slot: SlotName) -> bytes:
        """What `seal` kept of the tree's digests; empty if it is lost. Raises OSError."""
        try:
            with (self.slot(slot) / "tree.json").open("rb") as file:
                return file.read(MAX_TREE_BYTES + 1)
        except FileNotFoundError:
            return b""

    def seal(self, slot: SlotName, manifest: Manifest, tree: bytes = b"") -> None:
        """Declare a slot complete; what is in it must be durable already.

        Args:
            slot: which.
            manifest: of its bundle.
            tree: the tree's document, to check the slot by later.
        """
        write_durably(self.slot(slot) / "tree.json", tree)
        write_durably(self.slot(slot) / "manifest.json", manifest.encode())

    def replacement(self, slot: SlotName) -> Path:
        """Where a tree is made that is to replace the slot's; `adopt` does it."""
        return self.slot(slot) / "tree-new"

    def adopt(self, slot: SlotName) -> None:
        """Put a replacement in the place of the slot's tree, if there is one.

        A replacement is there only once it is whole and durable, so this is done to its end after a
        kill, too. Raises OSError.
        """
        if not self.replacement(slot).is_dir():
            return
        old = self.tmp / f"damaged-{slot}"
        shutil.rmtree(old, ignore_errors=True)
        self.tmp.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.tree(slot).rename(old)
        self.replacement(slot).rename(self.tree(slot))
        fsync_directory(self.slot(slot))
        shutil.rmtree(old, ignore_errors=True)

    def empty(self, slot: SlotName) -> tuple[Path, ...]:
        """Make a slot empty; returns folders with its old tree, good as seeds.

        Its old content is put aside until `forget` or the next start; `restore` brings it back.
        What an earlier, interrupted fetch left half done stays: the store goes on from there, also
        where the device went back to that slot meanwhile.
        """
        folder, aside = self.slot(slot), self._aside(slot)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _move(folder, aside, _CONTENT[:1])  # the manifest first: a slot without it is not complete
        fsync_directory(folder)
        _move(folder, aside, _CONTENT[1:])
        for left in folder.glob("*tree-new*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self._half_fetched(other(slot)):
            with contextlib.suppress(OSError):  # it has one of its own already
                left.rename(folder / left.name)
            shutil.rmtree(left, ignore_errors=True)
        fsync_directory(folder)
        old = aside / "tree"
        return (old,) if old.is_dir() else ()

    def restore(self, slot: SlotName) -> bool:
        """Undo `empty`; False if what was put aside is not there, or was not complete.

        Raises OSError.
        """
        folder, aside = self.slot(slot), self._aside(slot)
        if not (aside / "manifest.json").exists():
            return False
        for name in _CONTENT:
            shutil.rmtree(folder / name, ignore_errors=True)
        _move(aside, folder, _CONTENT[1:])
        fsync_directory(folder)
        _move(aside, folder, _CONTENT[:1])
        fsync_directory(folder)
        self.forget(slot)
        return True

    def forget(self, slot: SlotName) -> None:
        """Delete what `empty` put aside."""
        shutil.rmtree(self._aside(slot), ignore_errors=True)

    def replaced(self, slot: SlotName) -> tuple[Path, ...]:
        """Folders that an update of this slot takes the place of, half a fetch included."""
        return self.slot(slot), self._aside(slot), *self._half_fetched(other(slot))

    def discard(self, slot: SlotName) -> None:
        """Give back the space of a slot that is not complete."""
        for left in (self._aside(slot), self.tree(slot), *self.slot(slot).glob(".*")):
            shutil.rmtree(left, ignore_errors=True)

    def clean(self) -> None:
        """Remove what a killed agent left in tmp/ and beside the state files.

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
                self.adopt(slot)
        except OSError as error:
            raise self._unwritable(error) from None

    def free_mib(self) -> int:
        """Free disk for the state folder, MiB; 0 of a disk that cannot be asked."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self.path).free // 2**20
        except OSError:
            return 0

    def holder(self) -> int | None:
        """Process id of the running agent, None if there is none. Raises as `journal`."""
        try:
            return lock.holder(self.path / "lock")
        except OSError as error:
            raise self._unreadable(error) from None

    def require_owner(self) -> None:
        """Refuse to be root in a folder of somebody else, who could not write what root leaves.

        Any other user is the kernel's to judge: in Kubernetes the volume is root's and the agent
        writes to it by its group.

        Raises:
            UsageError: names the owner.
            StoreError, ConfigurationError: the folder cannot be asked.
        """
        try:
            owner = self.path.stat().st_uid
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(error) from None
        if os.geteuid() != 0 or owner == 0:
            return
        name = _user(owner)
        message = f"The state folder {self.path} belongs to {name}, and this is root"
        why = "the device's service could not write the files that root would leave there"
        hint = f"run it as {name}: sudo -u {name} forge device … --state {self.path}"
        raise UsageError(message, why=why, hint=hint)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only agent of this folder. Raises UsageError that names the other one.

        And as `require_owner`.
        """
        with contextlib.ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self.require_owner()
                held.enter_context(lock.hold(self.path / "lock"))
            except OSError as error:
                raise self._unwritable(error) from None
            yield

    def _aside(self, slot: SlotName) -> Path:
        return self.tmp / f"aside-{slot}"

    def _half_fetched(self, slot: SlotName) -> tuple[Path, ...]:
        return tuple(self.slot(slot).glob(".tree.*"))  # forge.store.partial

    def _recovered(self) -> Journal:
        active = self.current()
        manifest = self.manifest(active) if active else None
        if active is None or manifest is None:
            return Journal()
        return Journal(active=active, slots={active: Release.of(manifest)})

    def _unwritable(self, error: OSError) -> ForgeError:
        kind = StoreError if error.errno in _DISK_HINTS else ConfigurationError
        message = f"The device's state folder {self.path} cannot be written"
        hint = _DISK_HINTS.get(error.errno or 0, "fix the folder's rights")
        return kind(message, why=str(error), hint=f"{hint}; the active slot is untouched")

    def _unreadable(self, error: OSError) -> ForgeError:
        kind = StoreError if error.errno == errno.EIO else ConfigurationError
        message = f"The device's state folder {self.path} cannot be read"
        denied = error.errno in {errno.EACCES, errno.EPERM}
        hint = "be root or the agent's user" if denied else "see what dmesg says of the disk"
        return kind(message, why=str(error), hint=f"{hint}; nothing was changed")


def _move(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (source / name).rename(target / name)


def _user(number: int) -> str:
    """Name of a user, or its number as sudo takes it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"'#{number}'"
