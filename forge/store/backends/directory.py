"""A store in a folder: `artifacts/` of a checkout, or a mounted disk.

New bytes go to a temporary file, are fsynced and renamed (or hard-linked, where nothing may be
replaced), so that readers see the old object or the new one, also after a power cut. Replacing and
deleting take an advisory lock on `.lock`, which makes `write_if` atomic between processes of one
machine. Reading takes no lock and writes nothing, so a read-only mount is sufficient.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from forge import canonical
from forge.errors import ConflictError, CorruptedError, NotInStoreError, StoreError
from forge.files import check_relative_path, fsync_directory
from forge.store.backends.protocol import Entry, Stored
from forge.store.backends.throttle import RateLimit, local_blocks
from forge.store.disk_errors import disk_error, sweep_folder

__all__ = ["DirectoryObjects"]

_SCRATCH = ".tmp"


class DirectoryObjects:
    """Objects as files below `root`. The first write creates the folder.

    A folder that existed before is never created again: if its disk is unmounted during a run, a
    write must not create a second store below the mount point.

    Args:
        root: the folder.
        limit: rate limit for reading packs: the folder may be a mount of another machine.
    """

    def __init__(self, root: Path, limit: RateLimit | None = None) -> None:
        self._root = root
        self._limit = limit
        self._seen = root.is_dir()

    @property
    def url(self) -> str:
        """Return the path of the folder."""
        return str(self._root)

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""
        with self._errors(name), self._path(name).open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            message = f"{name} in {self.url} is larger than {max_bytes} bytes"
            raise CorruptedError(message, hint="run 'forge store verify --repair'")
        return Stored(data, canonical.sha256(data))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""
        with self._errors(name), self._path(name).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, start)
            while len(data) < length and (more := os.pread(
                file.fileno(), length - len(data), start + len(data)
            )):  # fmt: skip
                data += more
        if len(data) != length:
            message = f"{name} in {self.url} ends before byte {start + length}"
            raise CorruptedError(message, hint="run 'forge store verify --repair'")
        return data

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`: one block, or smaller ones where the rate is limited."""
        return local_blocks(self._limit, partial(self.read_range, name), start, length)

    def report_bad_copy(self, name: str) -> bool:  # noqa: ARG002
        """See `Objects.report_bad_copy`: there is one place only."""
        return False

    def write(self, name: str, data: bytes) -> str:
        """See `Objects.write`."""
        with self._errors(name), self._temporary(data) as temporary, self._locked():
            self._install(temporary, name)
        return canonical.sha256(data)

    def write_new(self, name: str, data: bytes) -> str:
        """See `Objects.write_new`."""
        with self._errors(name), self._temporary(data) as temporary:
            path = self._parent_of(name)
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise ConflictError(f"{name} already exists in {self.url}") from None
            fsync_directory(path.parent)
        return canonical.sha256(data)

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        """See `Objects.write_if`."""
        with self._errors(name), self._temporary(data) as temporary, self._locked():
            path = self._path(name)
            if not path.is_file() or canonical.sha256(path.read_bytes()) != etag:
                message = f"{name} in {self.url} was changed by another process"
                raise ConflictError(message, hint="run the command again")
            self._install(temporary, name)
        return canonical.sha256(data)

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:
        """See `Objects.write_file`."""
        with self._errors(name):
            scratch = self.scratch()
            if take and path.stat().st_dev == scratch.stat().st_dev:
                _fsync(path)
                self._install(path, name)
                return
            descriptor, temporary = tempfile.mkstemp(dir=scratch)
            os.close(descriptor)
            try:
                shutil.copyfile(path, temporary)
                _fsync(Path(temporary))
                self._install(Path(temporary), name)
            finally:
                Path(temporary).unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        with self._errors(name):
            if not self._path(name).exists():
                return
            with self._locked():
                self._path(name).unlink(missing_ok=True)
            fsync_directory(self._path(name).parent)

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`."""
        with self._errors(name):
            try:
                status = self._path(name).stat()
            except FileNotFoundError:
                self._check_root()
                return None
        return Entry(name, status.st_size, status.st_mtime)

    def touch(self, name: str) -> None:
        """See `Objects.touch`."""
        with self._errors(name):
            os.utime(self._path(name))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Objects.entries`."""
        self._check_root()
        # The part of the prefix that is a folder bounds the walk.
        yield from self._walk(self._root / prefix.rpartition("/")[0], prefix)

    def scratch(self) -> Path:
        """See `Objects.scratch`: on the store's own file system, so that a pack is moved."""
        with self._errors(_SCRATCH):
            path = self._root / _SCRATCH
            if not path.is_dir():
                self._make_folder(path)
            return path

    def sweep(self, before: float) -> int:
        """See `Objects.sweep`."""
        with self._errors(_SCRATCH):
            return sweep_folder(self._root / _SCRATCH, before)

    def _walk(self, folder: Path, prefix: str) -> Iterator[Entry]:
        try:
            found = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._error(str(folder), error) from error
        for item in found:
            name = Path(item.path).relative_to(self._root).as_posix()
            if item.name.startswith("."):
                continue
            if item.is_dir(follow_symlinks=False):
                if name.startswith(prefix) or prefix.startswith(f"{name}/"):
                    yield from self._walk(Path(item.path), prefix)
            elif name.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):  # deleted since the listing
                    status = item.stat()
                    yield Entry(name, status.st_size, status.st_mtime)

    def _path(self, name: str) -> Path:
        return self._root / check_relative_path(name)

    def _parent_of(self, name: str) -> Path:
        """Return the path of an object, after creating its folder."""
        path = self._path(name)
        if not path.parent.is_dir():
            self._make_folder(path.parent)
        return path

    def _make_folder(self, path: Path) -> None:
        if not self._seen:
            self._root.mkdir(parents=True, exist_ok=True)
            self._seen = True
        current = self._root
        for part in path.relative_to(self._root).parts:
            if not (current / part).is_dir():
                (current / part).mkdir(exist_ok=True)
                fsync_directory(current)
            current /= part

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        """Yield an fsynced file with `data`; it is deleted afterwards unless it was renamed."""
        descriptor, name = tempfile.mkstemp(dir=self.scratch())
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _install(self, temporary: Path, name: str) -> None:
        path = self._parent_of(name)
        temporary.chmod(0o644)
        temporary.replace(path)
        fsync_directory(path.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._root / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _check_root(self) -> None:
        if self._seen and not self._root.is_dir():
            raise self._gone()

    def _gone(self) -> StoreError:
        return StoreError(
            f"The store {self.url} has disappeared",
            why="its folder existed before",
            hint="mount or restore the folder, then run the command again",
        )

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(name, error) from error

    def _error(self, name: str, error: OSError) -> StoreError:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            seen = (
                self._seen
            )  # read before checking the disk: another thread may be creating the folder
            if not self._root.is_dir():
                if seen:
                    return self._gone()
                message = f"No store at {self.url}"
                return NotInStoreError(message, hint="check the path given to --store")
            return NotInStoreError(f"{name} is not in the store {self.url}")
        if isinstance(error, IsADirectoryError):
            return NotInStoreError(f"{name} is not in the store {self.url}", why="it is a folder")
        return disk_error(f"The store {self.url} cannot be used", name, error)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
