"""Files that may be used instead of a download: only when their bytes are the wanted ones."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from forge.store.download import seeds as module
from forge.store.download.seeds import Seeds
from forge.store.formats.chunker import FileCutter
from forge.store.formats.tree import TreeEntry
from tests.support.stores import noise


def entry(path: str, data: bytes) -> TreeEntry:
    digest = hashlib.sha256(data).hexdigest()
    return TreeEntry(path=path, mode=0o644, size=len(data), sha256=digest)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def cut(path: Path) -> dict[bytes, bytes]:
    return {digest: bytes(data) for digest, data in FileCutter(path)}


def chunks_of(seeds: Seeds, wanted: TreeEntry, digests: set[bytes]) -> dict[bytes, bytes]:
    """Chunks that the seeds hand over."""
    left = dict.fromkeys(digests, 0)
    found: dict[bytes, bytes] = {}

    def use(digest: bytes, data: memoryview) -> None:
        del left[digest]
        found[digest] = bytes(data)

    seeds.chunks(wanted, left, use)
    return found


def test_a_file_of_the_same_bytes_is_found_under_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "old" / "sub" / "name", b"12345")
    seeds = Seeds([tmp_path / "none", tmp_path / "old"])
    assert seeds.whole(entry("other", b"12345")) == path


def test_a_file_of_the_same_path_and_size_and_other_bytes_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "file", b"12345")
    assert Seeds([tmp_path]).whole(entry("file", b"54321")) is None


def test_of_several_the_file_of_the_same_path_is_taken(tmp_path: Path) -> None:
    for name in ("a", "m", "z"):
        write(tmp_path / name, b"same")
    seeds = Seeds([tmp_path])
    for name in ("a", "m", "z"):
        assert seeds.whole(entry(name, b"same")) == tmp_path / name


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", b"12345")
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(module, "sha256_file", digest)
    seeds = Seeds([tmp_path])
    for data in (b"54321", b"12345", b"other", b"longer text"):
        seeds.whole(entry("x", data))
    assert read == [tmp_path / "file"]


def test_as_many_files_are_hashed_as_there_are_for_any_number_of_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"old-{number}": str(number).zfill(8).encode() for number in range(200)}
    for name, data in files.items():
        write(tmp_path / name, data)
    compared: list[Path] = []

    def digest(path: Path) -> str:
        compared.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(module, "sha256_file", digest)
    seeds = Seeds([tmp_path])
    found = [seeds.whole(entry(f"new-{name}", data)) for name, data in reversed(files.items())]
    assert found == [tmp_path / name for name in reversed(files)]
    assert seeds.whole(entry("none", b"00000999")) is None
    assert sorted(compared) == sorted(tmp_path / name for name in files)


@pytest.mark.parametrize("sizes", [[5, 9, 11, 30], [1, 2, 3, 4], [20, 30, 40, 50], [10], []])
def test_the_nearest_sizes_are_those_of_a_search_through_all(
    tmp_path: Path, sizes: list[int]
) -> None:
    for size in sizes:
        write(tmp_path / f"{size}.bin", noise(size))
    nearest = sorted(sizes, key=lambda size: abs(size - 10))[:3]
    likely = Seeds([tmp_path])._nearest.of(entry("x.bin", noise(10, 1)))
    assert [path.stat().st_size for path in likely] == nearest


def test_links_pipes_and_empty_files_are_not_used(tmp_path: Path) -> None:
    target = write(tmp_path / "elsewhere", b"12345")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "link").symlink_to(target)
    os.mkfifo(tmp_path / "old" / "pipe")
    write(tmp_path / "old" / "empty", b"")
    seeds = Seeds([tmp_path / "old"])
    assert seeds.whole(entry("link", b"12345")) is None
    assert seeds.whole(entry("empty", b"")) is None


def test_a_file_that_disappeared_is_not_used(tmp_path: Path) -> None:
    data = noise(100_000)
    path = write(tmp_path / "old" / "file", data)
    digests = set(cut(path))
    seeds = Seeds([tmp_path / "old"])
    path.unlink()
    assert seeds.whole(entry("file", data)) is None
    assert chunks_of(seeds, entry("file", data), digests) == {}


def test_wanted_chunks_come_from_the_file_of_the_same_path(tmp_path: Path) -> None:
    data = noise(600_000)
    new = data[:200_000] + b"edit" + data[200_000:]
    write(tmp_path / "old" / "model.bin", data)
    write(tmp_path / "old" / "nearer.bin", new[:-1])  # not read, the path decides
    wanted = cut(write(tmp_path / "new" / "model.bin", new))
    found = chunks_of(Seeds([tmp_path / "old"]), entry("model.bin", new), set(wanted))
    assert found
    assert found.items() <= wanted.items()
    assert wanted.keys() - found.keys()  # those at the edit


def test_without_the_same_path_the_nearest_sizes_with_the_suffix_are_cut(tmp_path: Path) -> None:
    data = noise(300_000)
    wanted = cut(write(tmp_path / "new", data))
    for number, size in enumerate([1000, 2000, 3000, 299_000]):
        write(tmp_path / "old" / f"{number}.bin", noise(size, number + 5))
    write(tmp_path / "old" / "equal.txt", data)
    seeds = Seeds([tmp_path / "old"])
    assert chunks_of(seeds, entry("x.bin", data), set(wanted)) == {}
    assert chunks_of(seeds, entry("x.txt", data), set(wanted)) == wanted


def test_at_most_three_files_of_another_name_are_cut(tmp_path: Path) -> None:
    data = noise(100_000)
    wanted = cut(write(tmp_path / "new", data))
    for number in range(3):
        write(tmp_path / "old" / f"{number}.bin", noise(100_000, number + 5))
    write(tmp_path / "old" / "far.bin", data + noise(100_000, 9))
    digests = set(cut(tmp_path / "old" / "far.bin")) & set(wanted)
    assert digests
    assert chunks_of(Seeds([tmp_path / "old"]), entry("x.bin", data), digests) == {}
    (tmp_path / "old" / "0.bin").unlink()
    assert set(chunks_of(Seeds([tmp_path / "old"]), entry("x.bin", data), digests)) == digests


def test_an_error_of_the_caller_is_not_taken_for_a_bad_seed(tmp_path: Path) -> None:
    data = noise(100_000)
    digests = set(cut(write(tmp_path / "file", data)))

    def use(_digest: bytes, _data: memoryview) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        Seeds([tmp_path]).chunks(entry("file", data), dict.fromkeys(digests, 0), use)


def test_nothing_is_read_when_no_chunk_is_wanted(tmp_path: Path) -> None:
    write(tmp_path / "file", noise(100))
    seeds = Seeds([tmp_path])
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()  # reading it would fail
    assert chunks_of(seeds, entry("file", noise(100)), set()) == {}
