"""Whatever the order in which its parts arrive, the file is the same and its digest is right."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.store.download.out_of_order_file import OutOfOrderFile
from forge.store.formats.tree import TreeEntry
from tests.support.stores import noise


def entry(data: bytes, mode: int = 0o644) -> TreeEntry:
    digest = hashlib.sha256(data).hexdigest()
    return TreeEntry.model_validate(
        {"path": "f", "mode": mode, "size": len(data), "sha256": digest}
    )


def parts(data: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    ends = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return [(start, data[start:end]) for start, end in itertools.pairwise(ends)]


@given(
    st.binary(min_size=1, max_size=400), st.lists(st.integers(1, 400), max_size=12), st.randoms()
)
def test_any_order_of_arrivals_makes_the_file(data: bytes, cuts: list[int], random: object) -> None:
    found = parts(data, cuts)
    random.shuffle(found)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as name:
        file = OutOfOrderFile(Path(name, "part"), entry(data))
        for position, part in found:
            file.write(position, part)
        assert file.finish(Path(name, "target"))
        assert Path(name, "target").read_bytes() == data
        assert not Path(name, "part").exists()


@given(st.binary(min_size=2, max_size=100), st.lists(st.integers(1, 99), max_size=6), st.data())
def test_one_wrong_byte_anywhere_is_noticed(
    data: bytes, cuts: list[int], draw: st.DataObject
) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    wrong = bytearray(data)
    wrong[at] ^= 1
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "part")
        file = OutOfOrderFile(path, entry(data))
        for position, part in reversed(parts(bytes(wrong), cuts)):
            file.write(position, part)
        assert not file.finish(Path(name, "target"))
        file.close()
        assert path.exists()
        assert not Path(name, "target").exists()


def test_a_part_that_never_came_is_noticed(tmp_path: Path) -> None:
    data = noise(100)
    file = OutOfOrderFile(tmp_path / "part", entry(data))
    file.write(0, data[:40])
    file.write(50, data[50:])
    assert not file.finish(tmp_path / "target")
    file.close()


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    data = noise(3 * 1024 * 1024 + 7)
    file = OutOfOrderFile(tmp_path / "part", entry(data))
    found = parts(data, list(range(50_000, len(data), 50_000)))
    together = threading.Barrier(4)

    def work(number: int) -> None:
        together.wait()
        for position, part in found[number::4]:
            file.write(position, part)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert file.finish(tmp_path / "part")  # its name may stay
    assert (tmp_path / "part").read_bytes() == data


def test_bytes_that_were_kept_and_not_noted_may_be_replaced(tmp_path: Path) -> None:
    data = noise(100)
    file = OutOfOrderFile(tmp_path / "part", entry(data))
    file.keep(0, bytes(100))
    file.keep(0, data)
    file.note(0, 100)
    assert file.finish(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data


def test_repeated_bytes_are_copied_within_the_file(tmp_path: Path) -> None:
    data = noise(30) + b"-" + noise(30)
    file = OutOfOrderFile(tmp_path / "part", entry(data))
    file.write(0, data[:31])
    file.copy(0, 31, 30)
    assert file.finish(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_the_mode_is_the_entry_s_only_when_the_file_is_whole(tmp_path: Path, mode: int) -> None:
    file = OutOfOrderFile(tmp_path / "part", entry(b"x", mode))
    assert (tmp_path / "part").stat().st_mode & 0o777 == 0o600
    file.write(0, b"x")
    assert file.finish(tmp_path / "target")
    assert (tmp_path / "target").stat().st_mode & 0o777 == mode


def test_an_empty_file_is_whole_at_once(tmp_path: Path) -> None:
    file = OutOfOrderFile(tmp_path / "part", entry(b""))
    assert file.finish(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b""


def test_what_an_earlier_run_wrote_is_found_and_counts(tmp_path: Path) -> None:
    data = noise(100)
    begun = data[:60] + bytes(20) + data[80:90]  # a hole and a short end
    (tmp_path / "part").write_bytes(begun)
    file = OutOfOrderFile(tmp_path / "part", entry(data))
    assert file.resumed
    digests = {at: hashlib.sha256(data[at : at + 20]).digest() for at in range(0, 100, 20)}
    assert [file.found(at, 20, digests[at]) for at in (0, 20, 40)] == [None, None, None]
    assert file.found(60, 20, digests[60]) == b""
    assert file.found(80, 20, digests[80]) == data[80:90]
    file.write(60, data[60:80])
    file.write(80, data[80:])
    assert file.finish(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data


def test_a_whole_chunk_with_another_digest_is_never_returned_as_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"\xff" * 20)
    file = OutOfOrderFile(tmp_path / "part", entry(noise(20)))
    assert file.found(0, 20, hashlib.sha256(noise(20)).digest()) == b"\xff" * 19
    file.close()


def test_a_longer_file_of_an_earlier_run_is_cut(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"abc" + b"too much")
    file = OutOfOrderFile(tmp_path / "part", entry(b"abc"))
    assert file.found(0, 3, hashlib.sha256(b"abc").digest()) is None
    assert file.finish(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"abc"


def test_a_new_file_is_not_resumed_and_a_link_is_not_followed(tmp_path: Path) -> None:
    file = OutOfOrderFile(tmp_path / "part", entry(b"x"))
    assert not file.resumed
    file.close()
    file.close()  # a second time changes nothing
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        OutOfOrderFile(tmp_path / "link", entry(b"x"))
    assert not (tmp_path / "elsewhere").exists()
