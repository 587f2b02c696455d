"""Write a capture as one tar, and read it from a tar or from a folder with the same content.

    capture.json               format, answers of commands, errno of what could not be read
    commands/01-NAME.stdout    what a command printed, .stderr next to it
    root/proc/meminfo          the files, below root

A capture comes from another person's machine. It is read into memory and never unpacked, so no
path or link of it reaches a disk; anything except small plain files is refused.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.device.hardware.capture import Capture
from forge.device.hardware.facts import Answer
from forge.errors import ConfigurationError, TrustError
from forge.files import check_relative_path, write_durably
from forge.system_files import MAX_FILE_BYTES

__all__ = ["INDEX", "MAX_FILES", "MAX_TAR_BYTES", "read_capture", "write_capture"]

INDEX: Final = "capture.json"
MAX_FILES: Final = 8192
MAX_TAR_BYTES: Final = 64 * 2**20
_MAX_INDEX_BYTES: Final = 2 * 2**20
_ROOT: Final = "root/"
_COMMANDS: Final = "commands/"
_MAX_NAME: Final = 60
_MAX_PROBLEM: Final = 64 * 1024
_Path = Annotated[str, Field(min_length=1, max_length=1024)]
_Name = Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,80}$")]


class CapturedCommand(BaseModel):
    """The answer of one command.

    Attributes:
        argv: the command.
        code: its exit code; 0 also where it has none.
        problem: why it failed, with the exit code; empty if it did not.
        file: name below `commands/` of what it printed, without `.stdout` and `.stderr`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: tuple[Annotated[str, Field(max_length=1024)], ...] = Field(min_length=1, max_length=64)
    code: int = Field(default=0, ge=-255, le=255)
    problem: str = Field(default="", max_length=_MAX_PROBLEM)
    file: _Name


class CaptureIndex(BaseModel):
    """The file `capture.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    members: int | None = Field(default=None, description="number of the other files; null: any")
    commands: tuple[CapturedCommand, ...] = Field(default=(), max_length=256)
    unreadable: dict[_Path, Annotated[int, Field(ge=1, le=4095)]] = Field(
        default={}, description="errno by path"
    )
    listed: tuple[_Path, ...] = Field(default=(), description="paths that exist and were not read")


def write_capture(capture: Capture, path: Path) -> int:
    """Write a capture as a tar, and return its size in bytes. Equal captures are equal bytes.

    Raises OSError.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(_members(capture).items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    write_durably(path, out.getvalue())
    return len(out.getvalue())


def read_capture(path: Path) -> Capture:
    """Read a capture from a tar or a folder. Raises ConfigurationError if it is not valid."""
    try:
        members = dict(_of_folder(path) if path.is_dir() else _of_tar(path))
    except (OSError, tarfile.TarError, UnicodeError) as error:
        raise _invalid(path, str(error)) from None
    except _RefusedError as refused:
        raise _invalid(path, str(refused)) from None
    if INDEX not in members:
        raise _invalid(path, f"it has no {INDEX}")
    try:
        index = CaptureIndex.model_validate_json(members.pop(INDEX))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or INDEX
        raise _invalid(path, f"{INDEX}: {place}: {first['msg']}") from None
    if index.members not in {None, len(members)}:
        raise _invalid(path, f"it has {len(members)} of {index.members} files")
    return _capture(index, members)


class _RefusedError(Exception):
    """A member that no capture has."""


def _members(capture: Capture) -> dict[str, bytes]:
    members = {f"{_ROOT}{path}": data for path, data in capture.files.items()}
    commands = []
    for number, (argv, answer) in enumerate(sorted(capture.answers.items()), start=1):
        words = re.sub(r"[^0-9A-Za-z.]+", "-", "-".join(argv))[:_MAX_NAME].strip("-")
        name = f"{number:02d}-{words}"
        commands.append(
            CapturedCommand(
                argv=argv, code=answer.code, problem=answer.problem[:_MAX_PROBLEM], file=name
            )
        )
        for stream, text in (("stdout", answer.output), ("stderr", answer.errors)):
            if text:
                members[f"{_COMMANDS}{name}.{stream}"] = text.encode(errors="replace")
    index = CaptureIndex(
        members=len(members),
        commands=tuple(commands),
        unreadable=dict(sorted(capture.unreadable.items())),
        listed=tuple(sorted(capture.listed)),
    )
    members[INDEX] = (json.dumps(index.model_dump(mode="json"), indent=2) + "\n").encode()
    return members


def _capture(index: CaptureIndex, members: Mapping[str, bytes]) -> Capture:
    def text(one: CapturedCommand, stream: str) -> str:
        return members.get(f"{_COMMANDS}{one.file}.{stream}", b"").decode(errors="replace")

    return Capture(
        {
            name.removeprefix(_ROOT): data
            for name, data in members.items()
            if name.startswith(_ROOT)
        },
        index.unreadable,
        frozenset(index.listed),
        {
            one.argv: Answer(text(one, "stdout"), one.problem, text(one, "stderr"), one.code)
            for one in index.commands
        },
    )


def _of_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a tar that is not compressed: what it can expand to is its size."""
    if path.stat().st_size > MAX_TAR_BYTES:
        raise _RefusedError(f"it is larger than {MAX_TAR_BYTES} bytes")
    limits = _Limits()
    with tarfile.open(path, mode="r:") as archive:
        for entry in archive:
            name = entry.name.removeprefix("./")
            limits.count()
            if entry.isdir():
                continue
            if not entry.isreg() or getattr(entry, "sparse", None) is not None:
                raise _RefusedError(f"{name!r} is not a plain file")
            limits.check(name, entry.size)
            file = archive.extractfile(entry)
            yield name, file.read() if file else b""


def _of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder; a link in it is refused, wherever it leads."""
    limits = _Limits()
    for parent, folders, files in os.walk(folder):
        for each in sorted([*folders, *files]):
            path = Path(parent, each)
            limits.count()
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode):
                continue
            name = path.relative_to(folder).as_posix()
            if not stat.S_ISREG(found.st_mode):
                raise _RefusedError(f"{name!r} is not a plain file")
            limits.check(name, found.st_size)
            yield name, _read(path, found.st_size)


def _read(path: Path, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(size)


class _Limits:
    """What has been read of one capture; refuses what is more than any capture has."""

    def __init__(self) -> None:
        self._entries = 0
        self._bytes = 0
        self._names: set[str] = set()

    def count(self) -> None:
        """Count an entry of any kind."""
        self._entries += 1
        if self._entries > MAX_FILES:
            raise _RefusedError(f"it has more than {MAX_FILES} entries")

    def check(self, name: str, size: int) -> None:
        """Count a file, by its name and size in bytes."""
        try:
            check_relative_path(name)
        except TrustError as error:
            raise _RefusedError(f"{name!r}: {error.why}") from None
        if name != INDEX and not name.startswith((_ROOT, _COMMANDS)):
            raise _RefusedError(f"{name!r} is in none of {INDEX}, {_COMMANDS}, {_ROOT}")
        if name in self._names:
            raise _RefusedError(f"{name!r} is there twice")
        self._names.add(name)
        self._bytes += size
        most = _MAX_INDEX_BYTES if name == INDEX else 2 * MAX_FILE_BYTES
        if not 0 <= size <= most or self._bytes > MAX_TAR_BYTES:
            raise _RefusedError(f"{name!r} has {size} bytes")


def _invalid(path: Path, why: str) -> ConfigurationError:
    hint = "forge device capture -o FILE.tar makes one; a compressed one must be unpacked first"
    return ConfigurationError(f"{path} is not a capture", why=why, hint=hint)
