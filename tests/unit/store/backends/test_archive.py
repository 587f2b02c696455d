"""A store in one file: what it is read as, what a reader of tar sees, and what is refused."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import (
    ConfigurationError,
    CorruptedError,
    ForgeError,
    NotInStoreError,
    StoreError,
    TrustError,
)
from forge.store.backends.archive import ArchiveObjects, is_archive, write_archive
from forge.store.backends.memory import MemoryObjects
from forge.store.backends.throttle import RateLimit
from forge.store.formats import archive
from forge.store.formats.archive import SUMS, encode_header, encode_sums, padding
from tests.support.stores import noise

PACK = noise(70_001)
PACK_NAME = f"packs/{hashlib.sha256(PACK).hexdigest()[:2]}/{hashlib.sha256(PACK).hexdigest()}"
TREE_NAME = f"trees/{'a' * 64}.json"
TIMESTAMP = "tuf/metadata/timestamp.json"
LONG = f"tuf/targets/bundles/{'n' * 63}/1.0.0-{'v' * 32}/{'b' * 64}.{'p' * 63}.json"
STORED = {PACK_NAME: PACK, TREE_NAME: b"{}", TIMESTAMP: b"signed", LONG: b"", "files/1": b"x" * 512}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle.forge")


@pytest.fixture
def objects(path: Path) -> ArchiveObjects:
    return ArchiveObjects(path)


def write(path: Path) -> Path:
    source = MemoryObjects()
    for name, data in STORED.items():
        if not name.startswith("tuf/"):
            source.write(name, data)
    documents = {name: data for name, data in STORED.items() if name.startswith("tuf/")}
    assert write_archive(path, source, documents) == path.stat().st_size
    return path


def test_every_object_is_read_as_it_was_written(objects: ArchiveObjects, path: Path) -> None:
    modified = path.stat().st_mtime
    for name, data in STORED.items():
        stored = objects.read(name, max_bytes=len(data))
        assert (stored.data, stored.etag) == (data, hashlib.sha256(data).hexdigest())
        assert objects.size(name) == len(data)
        entry = objects.entry(name)
        assert entry is not None
        assert (entry.name, entry.size) == (name, len(data))
        assert entry.modified == pytest.approx(modified)
        assert objects.has_recorded_digest(name)
    assert objects.url == str(path)
    assert not objects.report_bad_copy(PACK_NAME)


def test_entries_are_those_of_a_prefix_and_the_sums_are_no_object(objects: ArchiveObjects) -> None:
    assert {one.name: one.size for one in objects.entries("")} == {
        name: len(data) for name, data in STORED.items()
    }
    assert [one.name for one in objects.entries("tuf/metadata/")] == [TIMESTAMP]
    assert list(objects.entries("actions/")) == []
    assert objects.entry(SUMS) is None
    with pytest.raises(NotInStoreError, match=SUMS):
        objects.read(SUMS, max_bytes=1 << 20)


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, len(PACK)), (69_000, 1_001), (5, 0)])
def test_a_range_is_exactly_those_bytes(objects: ArchiveObjects, start: int, length: int) -> None:
    expected = PACK[start : start + length]
    assert objects.read_range(PACK_NAME, start, length) == expected
    assert b"".join(objects.stream(PACK_NAME, start, length)) == expected


@pytest.mark.parametrize(("start", "length"), [(70_000, 2), (70_001, 1), (1 << 40, 5)])
def test_a_range_never_reaches_into_the_next_object(
    objects: ArchiveObjects, start: int, length: int
) -> None:
    with pytest.raises(CorruptedError, match=PACK_NAME):
        objects.read_range(PACK_NAME, start, length)


def test_what_is_missing_is_said_to_be_missing(objects: ArchiveObjects) -> None:
    assert objects.size("trees/none.json") is None
    uses: list[Callable[[], object]] = [
        lambda: objects.read("trees/none.json", max_bytes=1),
        lambda: objects.read_range("trees/none.json", 0, 1),
        lambda: objects.has_recorded_digest("trees/none.json"),
    ]
    for use in uses:
        with pytest.raises(NotInStoreError, match="is not in the store") as caught:
            use()
        assert objects.url in caught.value.what
    with pytest.raises(CorruptedError, match="larger than 5 bytes"):
        objects.read(TIMESTAMP, max_bytes=5)
    for name in ("../x", "/etc/passwd", "a//b", ""):
        with pytest.raises(TrustError, match="Unsafe path"):
            objects.read(name, max_bytes=1)


def test_a_missing_file_is_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    for path in (tmp_path / "none.forge", tmp_path / "none" / "x.forge"):
        with pytest.raises(StoreError, match="No store at") as caught:
            ArchiveObjects(path).read(TIMESTAMP, max_bytes=10)
        assert not isinstance(caught.value, NotInStoreError)
        assert "mount" in caught.value.hint


def test_it_is_not_written_to(objects: ArchiveObjects, path: Path) -> None:
    before = path.read_bytes()
    for use in (
        lambda: objects.write("x", b""),
        lambda: objects.delete(TIMESTAMP),
        lambda: objects.touch(TIMESTAMP),
    ):
        with pytest.raises(ConfigurationError, match="read-only") as caught:
            use()
        assert "export" in caught.value.hint
    assert path.read_bytes() == before


def test_the_rate_is_limited_and_the_bytes_are_the_same(path: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    limited = ArchiveObjects(path, RateLimit(8192, clock=lambda: now[0], sleep=sleep))
    blocks = list(limited.stream(PACK_NAME, 1, 32_768))
    assert b"".join(blocks) == PACK[1:32_769]
    assert max(map(len, blocks)) <= 1024
    assert now[0] == pytest.approx(4.0, rel=0.1)


def test_a_file_that_is_replaced_is_read_anew(objects: ArchiveObjects, path: Path) -> None:
    assert objects.read(TIMESTAMP, max_bytes=10).data == b"signed"
    write_archive(path, MemoryObjects(), {TIMESTAMP: b"newer"})
    assert objects.read(TIMESTAMP, max_bytes=10).data == b"newer"
    assert objects.size(PACK_NAME) is None


def test_equal_content_makes_equal_bytes_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a" / "one.forge"), tmp_path / "other.forge"
    other.write_bytes(b"old")
    assert write(other).read_bytes() == one.read_bytes()
    assert other.stat().st_mode & 0o777 == 0o644
    assert {file.name for file in tmp_path.iterdir()} == {"a", "other.forge"}


def test_an_object_whose_bytes_are_wrong_is_not_exported(tmp_path: Path) -> None:
    source = MemoryObjects()
    source.write(PACK_NAME, PACK[:-1] + b"!")
    with pytest.raises(CorruptedError, match=PACK_NAME):
        write_archive(tmp_path / "x.forge", source, {})
    assert list(tmp_path.iterdir()) == []


def test_python_and_gnu_tar_and_sha256sum_read_it(path: Path, tmp_path: Path) -> None:
    with tarfile.open(path) as read:
        members = read.getmembers()
        assert [one.name for one in members] == sorted({SUMS, *STORED})
        for one in members:
            assert (one.isreg(), one.mode, one.mtime, one.uid, one.gid) == (True, 0o644, 0, 0, 0)
            file = read.extractfile(one)
            assert file is not None
            assert one.name == SUMS or file.read() == STORED[one.name]
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for command in (["tar", "-xf", str(path)], ["sha256sum", "--check", "--strict", SUMS]):
        if shutil.which(command[0]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            assert not done.stderr


def test_a_path_that_ends_with_forge_and_is_no_folder_is_such_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.forge").mkdir()
    assert is_archive(tmp_path / "none.forge")
    assert not is_archive(tmp_path / "folder.forge")
    assert not is_archive(tmp_path / ".forge")
    assert not is_archive(tmp_path / "x.tar")


def test_a_changed_bit_at_every_kind_of_byte_is_seen(path: Path) -> None:
    """Headers, padding and end at every byte; of a large object at each thousandth byte."""
    data = path.read_bytes()
    with tarfile.open(path) as read:
        large = next(one for one in read if one.name == PACK_NAME)
    quiet = range(large.offset_data + 1, large.offset_data + large.size)
    for place in range(len(data)):
        if place in quiet and place % 1000:
            continue
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert named(path), place


def named(path: Path) -> list[str]:
    """What is said to be damaged: an object, or the file."""
    objects = ArchiveObjects(path)
    try:
        names = [one.name for one in objects.entries("")]
        return [name for name in names if not objects.has_recorded_digest(name)]
    except CorruptedError as error:
        return [error.what]


def test_a_file_that_is_cut_off_or_continued_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for end in {*range(0, len(data), 509), len(data) - 1, len(data) - 512, len(data) - 1024}:
        path.write_bytes(data[:end])
        with pytest.raises(CorruptedError, match="damaged"):
            ArchiveObjects(path).size(TIMESTAMP)
    for more in (b"\0", bytes(512), b"x" * 512, data):
        path.write_bytes(data + more)
        with pytest.raises(CorruptedError, match="follow its end"):
            ArchiveObjects(path).size(TIMESTAMP)


def tar(*members: tuple[str, bytes], sums: dict[str, bytes] | None = None) -> bytes:
    """A file with these members in this order behind its sums."""
    listed = dict(members) if sums is None else sums
    text = encode_sums({name: hashlib.sha256(data).hexdigest() for name, data in listed.items()})
    parts = [(SUMS, text), *members]
    body = b"".join(encode_header(n, len(data)) + data + padding(len(data)) for n, data in parts)
    return body + archive.END


HOSTILE: dict[str, tuple[bytes, type[ForgeError]]] = {
    "empty": (b"", CorruptedError),
    "only an end": (archive.END, CorruptedError),
    "no sums": (tar()[len(encode_header(SUMS, 0)) :], CorruptedError),
    "a path out of the store": (tar(("trees/../../../etc/passwd", b"x")), TrustError),
    "an absolute path": (tar(("/etc/passwd", b"x")), TrustError),
    "a name of no store": (tar(("leases/gc", b"x")), CorruptedError),
    "a hidden name": (tar((".lock", b"x")), CorruptedError),
    "a member twice": (tar(("trees/a", b"x"), ("trees/a", b"y")), CorruptedError),
    "members out of order": (tar(("trees/b", b"x"), ("trees/a", b"y")), CorruptedError),
    "sums of another member": (tar(("trees/a", b"x"), sums={"trees/b": b"x"}), CorruptedError),
    "sums of more": (tar(sums={"trees/b": b"x"}), CorruptedError),
    "sums of less": (tar(("trees/a", b"x"), sums={}), CorruptedError),
    "a size beyond the end": (
        tar().removesuffix(archive.END) + encode_header("trees/a", 1 << 20) + archive.END,
        CorruptedError,
    ),
    "a size beyond all files": (
        tar().removesuffix(archive.END) + encode_header("trees/a", 8 << 30) + archive.END,
        CorruptedError,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_before_anything_is_read(tmp_path: Path, case: str) -> None:
    data, kind = HOSTILE[case]
    (tmp_path / "x.forge").write_bytes(data)
    with pytest.raises(kind):
        ArchiveObjects(tmp_path / "x.forge").size("trees/a")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
             tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE],
)  # fmt: skip
def test_only_regular_files_are_members(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.forge", "w", format=tarfile.USTAR_FORMAT) as made:
        member = tarfile.TarInfo("trees/a")
        member.type, member.linkname = kind, "/etc/passwd"
        made.addfile(member)
    with pytest.raises(CorruptedError, match="damaged"):
        ArchiveObjects(tmp_path / "x.forge").size("trees/a")


def test_a_tar_of_another_program_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "other.forge", "w") as made:
        for name, data in sorted(STORED.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    with pytest.raises(CorruptedError) as caught:
        ArchiveObjects(tmp_path / "other.forge").size(TIMESTAMP)
    assert "forge bundle export" in caught.value.hint


def test_the_number_of_members_is_limited() -> None:
    data = tar(*((f"trees/{number:04d}", b"") for number in range(1000)))

    def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    assert len(archive.read_members(read, len(data), "x", max_members=1001)) == 1001
    with pytest.raises(CorruptedError, match="more than 1000 members"):
        archive.read_members(read, len(data), "x", max_members=1000)
    assert archive.MAX_MEMBERS < 10**6
