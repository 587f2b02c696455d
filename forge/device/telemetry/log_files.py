"""The log files of a device: the agent keeps its own next to those of the servers.

logs/agent.log, agent.log.1    of the agent, 4 MiB at most; also on standard error
logs/slot-a/triton.log         of the server of a slot (forge.serving.triton.server)
logs/compile.log               of the last compilation of an engine
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from forge.device.telemetry.logs import TextFormatter

__all__ = ["Follower", "agent_files", "kept", "tail"]

_NAME: Final = "agent.log"
_MAX_BYTES: Final = 2 * 1024 * 1024
_TAIL_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 256 * 1024


class _LogFile(logging.handlers.RotatingFileHandler):
    """A file of the log; a disk that is full or fails loses lines and ends nothing."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Do nothing: the line is on standard error too."""


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Keep what is logged during the body in `agent.log` of a folder, if that can be written."""
    try:
        handler = _LogFile(folder / _NAME, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk
            handler.close()


def agent_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of the agent's log, oldest first."""
    return folder / f"{_NAME}.1", folder / _NAME


def tail(files: Sequence[Path], lines: int) -> list[str]:
    """Return the last lines of files that follow each other; those that are not there are empty.

    Of each file the last 4 MiB are read. Raises OSError.
    """
    return _last(_ends(files, lines), lines)


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a file as it was read.

    Attributes:
        file: device and inode.
        position: where the reading ended, bytes.
        data: the last bytes before it.
    """

    file: tuple[int, int]
    position: int
    data: bytes


def _ends(files: Sequence[Path], lines: int) -> list[_End]:
    """Return the ends of the newest files that have so many lines, oldest first."""
    found: list[_End] = []
    for path in reversed(files):
        if sum(one.data.count(b"\n") for one in found) >= lines and found:
            break
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            status = os.fstat(file.fileno())
            start = max(0, status.st_size - _TAIL_BYTES)
            file.seek(start)
            data = file.read(_TAIL_BYTES)
            end = _End((status.st_dev, status.st_ino), start + len(data), data)
            if end.file not in {one.file for one in found}:  # rotated since then
                found.insert(0, end)
    return found


def _last(ends: Sequence[_End], lines: int) -> list[str]:
    found = [line for one in ends for line in _lines(one.data)]
    return found[-lines:] if lines else []


def _lines(data: bytes) -> list[str]:
    """Return lines as they were logged: other characters that end lines are a part of them."""
    *whole, rest = data.decode("utf-8", "replace").split("\n")
    return [*whole, rest] if rest else whole


@dataclass(slots=True)
class Follower:
    """Returns what is added to a log file, also after its rotation to `NAME.1`.

    Args:
        path: the file; need not be there yet.
    """

    path: Path
    _file: tuple[int, int] | None = None  # device and inode of what was read last
    _position: int = 0
    _rest: bytes = b""

    def tail(self, files: Sequence[Path], lines: int) -> list[str]:
        """Return the last complete lines; `lines` then continues behind them, with nothing twice.

        Args:
            files: those that follow each other; the last one is that of this follower.
            lines: how many.

        Raises:
            OSError: a file cannot be read.
        """
        ends = _ends(files, lines)
        if ends:
            # Where this file is not there yet, what was rotated away is continued.
            last = ends[-1]
            self._file, self._position = last.file, last.position
            before, line_end, self._rest = last.data.rpartition(b"\n")
            ends[-1] = replace(last, data=before + line_end)
        return _last(ends, lines)

    def lines(self) -> list[str]:
        """Return the complete lines that were added since the last call. Raises OSError."""
        data = self._read(self.path.with_name(f"{self.path.name}.1"), rotated=True)
        data += self._read(self.path, rotated=False)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _PIECE_BYTES:  # not text
            whole, self._rest = [*whole, self._rest], b""
        return [line.decode("utf-8", "replace") for line in whole]

    def _read(self, path: Path, *, rotated: bool) -> bytes:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                same = (status.st_dev, status.st_ino) == self._file
                if rotated and not same:
                    return b""  # of a rotation before
                if not same or status.st_size < self._position:  # another file, or it was cut
                    self._file, self._position = (status.st_dev, status.st_ino), 0
                file.seek(self._position)
                data = file.read(_TAIL_BYTES)
        except FileNotFoundError:
            return b""
        self._position += len(data)
        return data
