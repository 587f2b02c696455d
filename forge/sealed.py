"""Seal complete folders: make them read-only and list their files, so that changes are detected.

    0444 1377705 1764360000000000000 lib/python3.11/site-packages/x.py      a file
    0555 - - bin                                                            a folder
    link - /usr/bin/python3.11 bin/python                                   a symbolic link

The first line of a listing is the sha256 of the others: one that was cut short is not used.
The owner of a file, and root, can change it although it is read-only; the listing finds that by
mode, size and time of change, without reading the files. Files that Python adds to a `__pycache__`
are ignored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge import canonical

__all__ = ["LISTING", "own", "problem", "remove", "repair_modes", "seal", "seal_root"]

LISTING: Final = ".sealed"
_READ: Final = 0o444
_EXECUTE: Final = 0o111
_FOLDER: Final = 0o555
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def seal(folder: Path) -> None:
    """Remove all write permissions below a folder and write its listing.

    What is executable for one user becomes executable for all, so that programs may run as another
    user. The folder itself stays writable, so that it can be renamed; then call `seal_root`.
    """
    lines = []
    for name, path in _walk(folder):
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(path, _mode(found))  # noqa: PTH101
        lines.append(_line(name, path))
    data = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    listing = folder / LISTING
    listing.write_bytes(f"{canonical.sha256(data)}\n".encode() + data)
    listing.chmod(_READ)


def seal_root(folder: Path) -> None:
    """Remove the write permission of the folder itself, after its rename."""
    folder.chmod(_FOLDER)


def problem(folder: Path) -> str:
    """Return how a folder differs from its listing; empty if it does not."""
    try:
        listed = _listed(folder)
    except FileNotFoundError:
        return "it is not complete"
    except (OSError, ValueError) as error:
        return f"its listing cannot be used: {error}"
    for name, path in _walk(folder):
        expected = listed.pop(name, None)
        if expected is None:
            if "__pycache__" not in name.split("/"):
                return f"{name} was added"
        elif (found := _line(name, path)) != expected:
            return _explain(name, expected, found)
    return f"{next(iter(listed))} is missing" if listed else ""


def repair_modes(folder: Path) -> list[str]:
    """Restore the listed mode of every file and folder; return the names of those changed."""
    try:
        listed = _listed(folder)
    except (OSError, ValueError):
        return []
    repaired = []
    for name, line in listed.items():
        mode, _, _ = line.partition(" ")
        path = folder / name
        if mode == "link" or not path.exists() or path.is_symlink():
            continue
        if stat.S_IMODE(path.stat().st_mode) != int(mode, 8):
            with contextlib.suppress(OSError):  # another user's: it is found as a problem
                path.chmod(int(mode, 8))
                repaired.append(name)
    return repaired


def own(path: Path | str, *, above: int | None = None) -> None:
    """Let the owner of a file or folder read, write and (a folder) enter it; follow no link.

    Args:
        path: the file or folder.
        above: descriptor of the folder to which `path` is relative.

    Raises:
        OSError: it does not exist, is a link, or is another user's.
    """
    held = os.open(path, os.O_PATH | os.O_NOFOLLOW, dir_fd=above)
    try:
        found = os.fstat(held).st_mode
        if stat.S_ISLNK(found):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        rights = stat.S_IRWXU if stat.S_ISDIR(found) else stat.S_IRUSR | stat.S_IWUSR
        if found & rights != rights:
            os.chmod(f"/proc/self/fd/{held}", stat.S_IMODE(found) | rights)  # noqa: PTH101
    finally:
        os.close(held)


def remove(folder: Path) -> None:
    """Delete a folder with all that is in it, at any depth, even if it is read-only.

    It follows no link, and nothing is recursive: what is deleted may be deeper than Python's stack,
    and its paths longer than the kernel takes.

    Raises:
        OSError: it does not exist, is a link, or something in it cannot be deleted.
    """
    current = _entered(folder)
    levels: list[_Level] = []
    try:
        levels.append(_without_files(current))
        while levels[-1].folders or len(levels) > 1:
            if levels[-1].folders:
                opened = _entered(levels[-1].folders[-1], current)
            else:
                opened = os.open("..", _OPEN, dir_fd=current)
            os.close(current)
            current = opened
            if levels[-1].folders:
                levels.append(_without_files(current))
                continue
            levels.pop()
            if _identity(current) != levels[-1].identity:
                raise OSError(errno.ESTALE, "It was moved while it was deleted", str(folder))
            os.rmdir(levels[-1].folders.pop(), dir_fd=current)
    finally:
        os.close(current)
    folder.rmdir()


@dataclass(slots=True)
class _Level:
    """A folder that is being deleted: which it is, and the folders that are left in it."""

    identity: tuple[int, int]
    folders: list[str]


def _entered(folder: Path | str, above: int | None = None) -> int:
    """Return a descriptor of a folder to which its owner has all rights now. Raises OSError."""
    with contextlib.suppress(PermissionError):  # another user's, which may be open all the same
        own(folder, above=above)
    return os.open(folder, _OPEN, dir_fd=above)


def _without_files(folder: int) -> _Level:
    """Delete everything in a folder but the folders. Raises OSError."""
    with os.scandir(folder) as entries:
        listed = [(one.name, one.is_dir(follow_symlinks=False)) for one in entries]
    for name, is_folder in listed:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return _Level(_identity(folder), [name for name, is_folder in listed if is_folder])


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def _listed(folder: Path) -> dict[str, str]:
    """Return the lines by name, folders before their content. Raises OSError, ValueError."""
    digest, _, data = (folder / LISTING).read_bytes().partition(b"\n")
    if canonical.sha256(data).encode() != digest:
        message = f"{LISTING} was changed"
        raise ValueError(message)
    lines = data.decode(errors="surrogateescape").splitlines()
    return {line.split(" ", 3)[3]: line for line in lines}


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and path of everything below but the listing, folders before what is in them."""
    root = str(folder)
    for parent, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = f"{parent}/{name}"
            if (below := path[len(root) + 1 :]) != LISTING:
                yield below, path


def _mode(found: os.stat_result) -> int:
    if stat.S_ISDIR(found.st_mode):
        return _FOLDER
    return _READ | (_EXECUTE if found.st_mode & _EXECUTE else 0)


def _line(name: str, path: str) -> str:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return f"link - {os.readlink(path).replace(' ', '%20')} {name}"  # noqa: PTH115
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    if stat.S_ISDIR(found.st_mode):
        return f"{mode} - - {name}"
    return f"{mode} {found.st_size} {found.st_mtime_ns} {name}"


def _explain(name: str, expected: str, found: str) -> str:
    for what, before, now in zip(
        ("mode", "size", "time of change"), expected.split(" "), found.split(" "), strict=False
    ):
        if before != now:
            return f"{what} of {name} is {now} and was {before}"
    return f"{name} was replaced"
