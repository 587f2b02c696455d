"""Chunks of a file, compared with cutting all of its bytes at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pyfastcdc import FastCDC

from forge.store.formats.chunker import AVERAGE, MAXIMUM, MINIMUM, FileCutter
from tests.support.stores import noise

WINDOW = MAXIMUM + 4 * 1024 * 1024  # bytes in memory at once
SAMPLES = {
    "one byte": b"x",
    "the smallest chunk": noise(MINIMUM),
    "one more": noise(MINIMUM + 1),
    "zeros": bytes(3 * MAXIMUM + 5),
    "one window": noise(WINDOW),
    "one window and a byte": noise(WINDOW + 1),
    "two windows": noise(2 * WINDOW - 100),
    "zeros over a window": bytes(WINDOW + MAXIMUM // 2),
    "zeros out of step with the window": noise(30_000) + bytes(2 * WINDOW),
}


def cut(path: Path, data: bytes) -> tuple[list[bytes], FileCutter]:
    path.write_bytes(data)
    cutter = FileCutter(path)
    found = []
    for digest, view in cutter:
        chunk = bytes(view)
        assert hashlib.sha256(chunk).digest() == digest
        found.append(chunk)
    return found, cutter


@pytest.mark.parametrize("name", SAMPLES)
def test_windows_do_not_change_where_a_file_is_cut(tmp_path: Path, name: str) -> None:
    data = SAMPLES[name]
    chunks, cutter = cut(tmp_path / "file", data)
    whole = FastCDC(avg_size=AVERAGE, min_size=MINIMUM, max_size=MAXIMUM)
    assert [len(one) for one in chunks] == [one.length for one in whole.cut_buf(data)]
    assert b"".join(chunks) == data
    assert cutter.size == len(data)
    assert cutter.sha256 == hashlib.sha256(data).hexdigest()
    assert all(MINIMUM <= len(one) <= MAXIMUM for one in chunks[:-1])


def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    chunks, cutter = cut(tmp_path / "file", b"")
    assert chunks == []
    assert (cutter.size, cutter.sha256) == (0, hashlib.sha256(b"").hexdigest())


def test_an_edit_changes_only_the_chunks_at_its_place(tmp_path: Path) -> None:
    data = noise(5 * 1024 * 1024)
    middle = len(data) // 2
    before, _ = cut(tmp_path / "file", data)
    after, _ = cut(tmp_path / "file", data[:middle] + b"inserted" + data[middle:])
    assert len(set(after) - set(before)) <= 4
    assert len(before) > 40


def test_a_file_that_cannot_be_read_is_an_oserror(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            list(FileCutter(path))
