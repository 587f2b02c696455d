"""The layout of a `.forge` file: a tar of the objects of a store, in one form only.

    SHA256SUMS       digest and name of every other member, as sha256sum writes and checks them
    files/… packs/… trees/… tuf/…        the objects, by their names in a store

Members are regular files without owner, time or compression, sorted by name; a name of more than
100 bytes has a pax header with the record `path`. The end is two blocks of zeros. Headers, padding
and end can be made from names and sizes alone, so a reader compares all of their bytes: another
kind of member, an order of its own or a changed bit are all seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from forge.errors import CorruptedError
from forge.files import check_relative_path
from forge.store.formats.chunk_list import MAX_LIST_BYTES

__all__ = [
    "END",
    "MAX_MEMBERS",
    "MAX_MEMBER_BYTES",
    "SUFFIX",
    "SUMS",
    "Member",
    "damaged",
    "encode_header",
    "encode_sums",
    "padding",
    "parse_sums",
    "read_members",
]

SUFFIX: Final = ".forge"
SUMS: Final = "SHA256SUMS"
MAX_MEMBERS: Final = 400_000  # a tree has at most about 300,000 files
MAX_MEMBER_BYTES: Final = MAX_LIST_BYTES  # the largest object of a store
_BLOCK: Final = 512
_MAX_NAME: Final = 400  # the pax record fits into one block
_USTAR_NAME: Final = 100
_LONGEST_HEADER: Final = 3 * _BLOCK
END: Final = bytes(2 * _BLOCK)
_PAX_NAME: Final = b"././@PaxHeader"
_NAME: Final = re.compile(r"SHA256SUMS|(?:files|packs|trees|tuf)/[\w.%~/-]+", re.ASCII)
_SUM: Final = re.compile(r"([0-9a-f]{64})  (\S+)")

Read = Callable[[int, int], bytes]
"""Returns the bytes of the file from an offset, at most a length; fewer at the end of the file."""


@dataclass(frozen=True, slots=True)
class Member:
    """Place of one object in the file, in bytes."""

    start: int
    size: int


def encode_header(name: str, size: int) -> bytes:
    """Return everything in front of a member's bytes.

    Args:
        name: name of the object.
        size: its bytes, at most 8 GiB.
    """
    encoded = name.encode("ascii")
    if len(encoded) <= _USTAR_NAME:
        return _block(encoded, size, b"0")
    record = _record(b" path=" + encoded + b"\n")
    long_name = _block(_PAX_NAME, len(record), b"x") + record + padding(len(record))
    return long_name + _block(encoded[:_USTAR_NAME], size, b"0")


def padding(size: int) -> bytes:
    """Return the zeros that follow the bytes of a member."""
    return bytes(-size % _BLOCK)


def encode_sums(digests: Mapping[str, str]) -> bytes:
    """Return the content of SHA256SUMS.

    Args:
        digests: SHA-256 of each other member by its name.
    """
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode("ascii")


def parse_sums(data: bytes, members: Mapping[str, Member], where: str) -> dict[str, str]:
    """Return the digest of each member by its name. Raises CorruptedError."""
    found = [_SUM.fullmatch(line) for line in data.decode("ascii", "replace").split("\n")[:-1]]
    digests = {one[2]: one[1] for one in found if one}
    if digests.keys() != members.keys() - {SUMS} or encode_sums(digests) != data:
        raise damaged(where, f"{SUMS} does not list its members")
    return digests


def read_members(
    read: Read, total: int, where: str, max_members: int = MAX_MEMBERS
) -> dict[str, Member]:
    """Return the members by name, after checking every byte of the file that is in none of them.

    Args:
        read: reads the file.
        total: size of the file in bytes.
        where: path of the file, for messages.
        max_members: most members that are read.

    Raises:
        CorruptedError: the file is damaged, cut off, or was not made by `forge bundle export`.
        TrustError: a name is not safe.
    """
    members: dict[str, Member] = {}
    last, at, ahead = "", 0, read(0, _LONGEST_HEADER)
    while ahead[:_BLOCK] != END[:_BLOCK]:
        name, size, header = _parse(ahead, at, where)
        member = Member(at + len(header), size)
        end = member.start + size
        if end + len(END) > total:
            raise damaged(where, f"it ends at byte {total}, within {name}")
        if name <= last:
            raise damaged(where, f"{name} at byte {at} is not in order, or there twice")
        if len(members) >= max_members:
            raise damaged(where, f"it has more than {max_members} members")
        members[name], last = member, name
        zeros = padding(size)
        follows = read(end, len(zeros) + _LONGEST_HEADER)
        _compare(follows, zeros, end, where)
        at, ahead = end + len(zeros), follows[len(zeros) :]
    _compare(read(at, len(END)), END, at, where)
    if at + len(END) != total:
        raise damaged(where, f"{total - at - len(END)} bytes follow its end")
    if next(iter(members), None) != SUMS:
        raise damaged(where, f"it has no {SUMS}")
    return members


def damaged(where: str, why: str) -> CorruptedError:
    """Return the error for a file that is not as it was written."""
    hint = "copy it again from where it was made, or make it again with 'forge bundle export'"
    return CorruptedError(f"{where} is damaged", why=why, hint=hint)


def _parse(raw: bytes, at: int, where: str) -> tuple[str, int, bytes]:
    """Return name, size and header of the member at an offset. Raises as `read_members`."""
    encoded, fields = raw[:_USTAR_NAME].rstrip(b"\0"), raw[:_BLOCK]
    if raw[156:157] == b"x":
        record = raw[_BLOCK : 2 * _BLOCK].rstrip(b"\0")
        encoded, fields = record.partition(b" path=")[2][:-1], raw[2 * _BLOCK :]
    try:
        name, size = encoded.decode("ascii"), int(fields[124:135], 8)
    except ValueError:
        raise damaged(where, f"no member begins at byte {at}") from None
    if not 0 <= size <= MAX_MEMBER_BYTES or len(name) > _MAX_NAME:
        raise damaged(where, f"the member at byte {at} is too large or has too long a name")
    header = encode_header(name, size)
    _compare(raw, header, at, where)
    check_relative_path(name)
    if not _NAME.fullmatch(name):
        raise damaged(where, f"{name!r} is not an object of a store")
    return name, size, header


def _compare(found: bytes, expected: bytes, at: int, where: str) -> None:
    found = found[: len(expected)]
    if found != expected:
        pairs = zip(found, expected, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(found))
        raise damaged(where, f"byte {at + same} is wrong or missing")


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    """Return the header block of POSIX ustar."""
    before = name.ljust(_USTAR_NAME, b"\0") + b"0000644\0" + b"0000000\0" * 2
    before += b"%011o\0" % size + b"0" * 11 + b"\0"
    after = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    checksum = sum(before) + sum(b" " * 8) + sum(after)
    return before + b"%06o\0 " % checksum + after


def _record(text: bytes) -> bytes:
    """Return a pax record: its own length in front of the text."""
    length = len(text)
    while len(b"%d" % length) + len(text) != length:
        length = len(b"%d" % length) + len(text)
    return b"%d" % length + text
