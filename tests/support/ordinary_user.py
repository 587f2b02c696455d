"""Do something as a user whom file modes stop, also where the tests run as root."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

USER = 12345  # of nobody


def as_ordinary_user(folder: Path, work: Callable[[Path], None]) -> None:
    """Do it in a process of its own, to which this folder belongs. Raises AssertionError.

    `work` gets the folder as a relative path: those above it may be for root only.
    """
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)
    outside = os.open(folder, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.fchdir(outside)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
            work(Path())
            code = 0
        except BaseException:  # noqa: BLE001 - shown, and its code says it
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(outside)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "see the output"


def nested(folder: Path, levels: int, mode: int = 0o777) -> None:
    """Make folders in each other, with a file and two folders in each, from within."""
    folder.mkdir()
    current = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=current)
        os.mkdir("e", dir_fd=current)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o400, dir_fd=current))
        inside = os.open("d", os.O_RDONLY, dir_fd=current)
        os.fchmod(current, mode)
        os.close(current)
        current = inside
    os.close(current)
