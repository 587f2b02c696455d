"""Headers and sums of a `.forge` file, held against Python's tarfile; reading is in backends/."""

from __future__ import annotations

import io
import tarfile

import pytest

from forge.errors import CorruptedError
from forge.store.formats.archive import Member, encode_header, encode_sums, padding, parse_sums

TIMESTAMP = "tuf/metadata/timestamp.json"
LONG = f"tuf/targets/bundles/{'n' * 63}/1.0.0-{'v' * 32}/{'b' * 64}.{'p' * 63}.json"
SUMS = {TIMESTAMP: "a" * 64, "files/1": "b" * 64}
MEMBERS = dict.fromkeys(("SHA256SUMS", *SUMS), Member(0, 1))


def test_headers_are_those_of_the_standard_library() -> None:
    for name in (TIMESTAMP, LONG, "trees/" + "x" * 94, "trees/" + "x" * 95):
        data = io.BytesIO(encode_header(name, 7) + b"7 bytes" + padding(7))
        with tarfile.open(fileobj=data) as read:
            (member,) = read.getmembers()
        assert (member.name, member.size, member.offset_data) == (
            name, 7, len(encode_header(name, 7))
        )  # fmt: skip


def test_sums_are_read_as_they_were_written() -> None:
    assert parse_sums(encode_sums(SUMS), MEMBERS, "x") == SUMS


@pytest.mark.parametrize(
    "data",
    [b"", encode_sums(SUMS)[:-1], encode_sums(SUMS) + b"\n", encode_sums(SUMS).upper(), b"\xff\n",
     encode_sums({TIMESTAMP: "a" * 64}), encode_sums({**SUMS, "files/2": "c" * 64})],
)  # fmt: skip
def test_sums_that_do_not_list_each_member_once_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptedError, match="damaged"):
        parse_sums(data, MEMBERS, "x")
