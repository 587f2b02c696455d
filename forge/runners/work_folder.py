"""What a project's `.forge` contains: how large it is, what may be deleted, and deleting it.

    WORK/environments/<name>-<digest>   tool environments; made again from their lock files
    WORK/trees/<digest>                 inputs and outputs of steps; unpacked again from the store
    WORK/failed/<step>-<key>            log and script of a failed step
    WORK/running/<step>-…-<pid>         the folder of a running step, or of one that was killed
    WORK/keys                           signing keys: never deleted

A run holds a shared lock of the folders that it uses. Nothing is deleted from a folder while
another process holds its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from forge import sealed
from forge.errors import StoreError

__all__ = ["AREAS", "Area", "CacheItem", "WorkFolder", "folder_bytes"]

Area = Literal["environments", "trees", "failed", "running"]
AREAS: Final[tuple[Area, ...]] = ("environments", "trees", "failed", "running")

_LOCK: Final = ".in-use.lock"
_LOCKED: Final[tuple[Area, ...]] = ("environments", "trees")
_DAY_S: Final = 24 * 3600.0
_BLOCK: Final = 512  # the unit of st_blocks
# After so many days without use a run deletes them.
_KEPT_DAYS: Final[dict[Area, float]] = {"environments": 30, "trees": 14, "failed": 30, "running": 0}


@dataclass(frozen=True, slots=True)
class CacheItem:
    """One environment, tree or folder of a step.

    Attributes:
        area: what it is.
        path: its folder.
        bytes: size on disk.
        used: when it was last used, seconds since 1970.
        in_use: whether a process uses its area now.
    """

    area: Area
    path: Path
    bytes: int
    used: float
    in_use: bool


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folder `.forge` of a project."""

    path: Path

    def check_writable(self) -> None:
        """Make the folder. Raises StoreError if it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise StoreError(
                f"The project's folder {self.path} cannot be written",
                why=error.strerror or str(error),
                hint="run steps in a copy of the project that can be written: "
                f"cp -r {self.path.parent} FOLDER\n"
                "plan, check, profile and bundle need no such copy",
            ) from None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep others from deleting environments and trees during the body."""
        with contextlib.ExitStack() as opened:
            for area in _LOCKED:
                lock = self._open_lock(area, make=True)
                if lock is not None:
                    fcntl.flock(opened.enter_context(lock), fcntl.LOCK_SH)
            yield

    def items(self, areas: Sequence[Area] = AREAS) -> list[CacheItem]:
        """Return what could be deleted, the largest first."""
        found: list[CacheItem] = []
        for area in areas:
            with self._exclusive(area) as free:
                found += self._items(area, in_use=not free)
        return sorted(found, key=lambda one: one.bytes, reverse=True)

    def prune(
        self, now: float, days: float, areas: Sequence[Area] = AREAS, *, dry_run: bool = False
    ) -> list[CacheItem]:
        """Delete what was not used for some days, and return it. What is in use stays.

        Args:
            now: seconds since 1970.
            days: 0 for everything that is not in use.
            areas: which kinds.
            dry_run: delete nothing.
        """
        deleted = []
        for area in areas:
            with self._exclusive(area) as free:
                for item in self._items(area, in_use=not free):
                    if item.in_use or item.used > now - days * _DAY_S:
                        continue
                    if not dry_run:
                        _delete(item)
                    deleted.append(item)
        return deleted

    def bound(self, now: float, *areas: Area) -> None:
        """Delete what was not used for a long time.

        A run calls it for what it does not need when it starts, and for what it has marked as used
        when it ends.
        """
        for area in areas:
            self.prune(now, _KEPT_DAYS[area], [area])

    def _items(self, area: Area, *, in_use: bool) -> Iterator[CacheItem]:
        folder = self.path / area
        for path in folder.glob("*") if folder.is_dir() else ():
            with contextlib.suppress(OSError):  # deleted by another process now
                if path.is_dir():
                    mine = _runs(path) if area == "running" else in_use
                    used = path.stat().st_mtime
                    yield CacheItem(area, path, folder_bytes(path), used, mine)

    def _open_lock(self, area: Area, *, make: bool = False) -> IO[str] | None:
        """Open the lock of an area; None: the folder does not exist, or cannot be written."""
        folder = self.path / area
        try:
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            return (folder / _LOCK).open("a") if folder.is_dir() else None
        except OSError:
            return None

    @contextlib.contextmanager
    def _exclusive(self, area: Area) -> Iterator[bool]:
        """Hold the lock of an area during the body; yield False if another process uses it."""
        if area not in _LOCKED:
            yield True
            return
        lock = self._open_lock(area)
        if lock is None:  # there is nothing to delete, or nothing can be
            yield False
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def folder_bytes(folder: Path) -> int:
    """Return the size of a folder on disk; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            with contextlib.suppress(OSError):
                found = os.lstat(f"{parent}/{name}")
                if found.st_nlink > 1 and (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
                size += found.st_blocks * _BLOCK
    return size


def _runs(folder: Path) -> bool:
    """Return whether the process that made the folder of a step may still run."""
    pid = folder.name.rpartition("-")[2]
    return not pid.isdecimal() or Path(f"/proc/{pid}").exists()


def _delete(item: CacheItem) -> None:
    with contextlib.suppress(OSError):
        if item.area == "environments":
            sealed.remove(item.path)
        else:
            shutil.rmtree(item.path)
        if item.area == "trees":
            item.path.with_name(f"{item.path.name}.seen.json").unlink(missing_ok=True)
