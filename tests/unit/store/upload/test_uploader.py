"""What storing a folder writes, in which order, and what it reuses instead."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from forge.errors import ConflictError, StoreError
from forge.store.backends.memory import MemoryObjects
from forge.store.formats.chunk_list import decode
from forge.store.formats.names import files_name, pack_name, tree_name
from forge.store.formats.tree import SMALL, Found, scan
from forge.store.upload import uploader
from forge.store.upload.chunk_index import ChunkIndex
from forge.store.upload.uploader import TOUCH_AFTER_S, PutReport, Uploader
from tests.support.stores import noise


@dataclass
class World:
    """A store in memory, a folder to store, and the time."""

    folder: Path
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.objects = MemoryObjects(clock=lambda: self.now)
        self.folder.mkdir()

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def put(self, *, index: ChunkIndex | None = None, found: tuple[Found, ...] = ()) -> PutReport:
        with index or ChunkIndex(None) as opened, ThreadPoolExecutor(2) as pool:
            opened.refresh(self.objects)
            put = Uploader(self.objects, opened, pool, now=self.now, progress=None)
            return put.run(found or scan(self.folder), self.before_tree)

    def before_tree(self) -> None:
        """Nothing, unless a test replaces it."""

    def names(self, prefix: str = "") -> set[str]:
        return {entry.name for entry in self.objects.entries(prefix)}

    def content(self, digest: str, size: int) -> bytes:
        """The file that a chunk list makes."""
        data = self.objects.read(files_name(digest), max_bytes=99_999).data
        return b"".join(
            self.objects.read_range(pack_name(one.pack.hex()), one.offset, one.length)
            for one in decode(data, size=size, name="x")
        )

    def times(self) -> dict[str, float]:
        return {entry.name: entry.modified for entry in self.objects.entries("")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "in")


@pytest.mark.parametrize(("size", "large"), [(1, False), (SMALL, False), (SMALL + 1, True)])
def test_only_a_larger_file_has_a_chunk_list(world: World, size: int, *, large: bool) -> None:
    digest = world.write("file", noise(size))
    reference = world.put().reference
    assert world.names("files/") == ({files_name(digest)} if large else set())
    assert world.names("packs/") == {pack_name(digest)}  # it is the only chunk of its pack
    assert world.names("trees/") == {tree_name(reference.digest)}


def test_the_chunks_of_the_list_make_the_file(world: World) -> None:
    data = noise(600_000)
    name = files_name(world.write("file", data))
    world.put()
    chunks = list(decode(world.objects.read(name, max_bytes=99_999).data, size=600_000, name=name))
    parts = [
        world.objects.read_range(pack_name(one.pack.hex()), one.offset, one.length)
        for one in chunks
    ]
    assert len(parts) > 3
    assert b"".join(parts) == data
    assert [hashlib.sha256(part).digest() for part in parts] == [one.digest for one in chunks]


def test_an_empty_file_is_in_the_tree_only(world: World) -> None:
    world.write("empty", b"")
    report = world.put()
    assert world.names() == {tree_name(report.reference.digest)}
    assert (report.reference.files, report.new_bytes, report.reused_bytes) == (1, 0, 0)


def test_the_tree_is_written_last_and_only_if_the_caller_lets_it(world: World) -> None:
    small, large = world.write("small", noise(9)), world.write("large", noise(100_000, 1))

    def look() -> None:
        assert pack_name(small) in world.names()
        assert files_name(large) in world.names()
        assert world.names("trees/") == set()
        raise ConflictError("the lease was lost")

    world.before_tree = look  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="the lease was lost"):
        world.put()
    assert world.names("trees/") == set()


def test_bytes_are_counted_as_new_once_and_as_reused_after_that(world: World) -> None:
    world.write("a", noise(200_000))
    world.write("b", noise(200_000))  # the same
    world.write("c", noise(10, 1))
    world.write("d", noise(10, 1))
    first = world.put()
    assert (first.new_bytes, first.reused_bytes) == (200_010, 200_010)
    again = world.put()
    assert (again.new_bytes, again.reused_bytes) == (0, 400_020)
    assert again.reference == first.reference


def test_a_changed_file_adds_only_its_changed_chunks(world: World) -> None:
    data = noise(1_000_000)
    world.write("file", data)
    world.put()
    world.write("file", data[:500_000] + b"x" + data[500_000:])
    assert 0 < world.put().new_bytes < 600_000


@pytest.mark.parametrize("size", [100, 100_000])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_than_was_found_is_refused(
    world: World, size: int, change: int
) -> None:
    world.write("file", noise(size))
    found = tuple(replace(one, size=one.size + change) for one in scan(world.folder))
    with pytest.raises(StoreError, match="changed while it was being stored") as caught:
        world.put(found=found)
    assert str(world.folder / "file") in caught.value.what
    assert world.names("trees/") == set()


def test_a_file_that_disappeared_is_an_error_of_the_disk(world: World) -> None:
    world.write("file", noise(10))
    found = scan(world.folder)
    (world.folder / "file").unlink()
    with pytest.raises(StoreError, match="cannot be read") as caught:
        world.put(found=found)
    assert "file" in caught.value.why


@pytest.mark.parametrize("age", [TOUCH_AFTER_S, TOUCH_AFTER_S + 1])
def test_what_is_used_again_is_made_young_when_it_is_old(world: World, age: float) -> None:
    world.write("small", noise(10))
    world.write("large", noise(100_000, 1))
    world.put()
    begun = world.now
    world.now += age
    world.put()
    expected = world.now if age > TOUCH_AFTER_S else begun
    assert set(world.times().values()) == {expected}
    assert len(world.times()) == 4


def test_a_pack_that_the_store_lost_is_written_again(world: World) -> None:
    world.write("file", noise(300_000))
    world.put()
    before = world.names()
    for name in world.names("packs/"):
        world.objects.delete(name)
    assert world.put().new_bytes == 300_000
    assert world.names() == before


def test_no_chunk_is_taken_from_beyond_the_end_of_a_pack_that_was_cut(world: World) -> None:
    digest = world.write("file", noise(300_000))
    world.put()
    (pack,) = world.names("packs/")
    world.objects.write(pack, noise(300_000)[:-1])
    assert 0 < world.put().new_bytes < 300_000
    assert world.content(digest, 300_000) == noise(300_000)


@pytest.mark.parametrize("kind", ["files/", "trees/"])
def test_a_damaged_document_is_written_again(world: World, kind: str) -> None:
    world.write("file", noise(100_000))
    world.put()
    (name,) = world.names(kind)
    good = world.objects.read(name, max_bytes=9999).data
    for bad in (b"", good[:-1], b"x" * len(good)):
        world.objects.write(name, bad)
        world.put()
        assert world.objects.read(name, max_bytes=9999).data == good


def test_a_folder_of_too_many_files_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        world.write(name, b"")
    monkeypatch.setattr(uploader, "MAX_TREE_BYTES", 100)
    with pytest.raises(StoreError, match="too many files: 3") as caught:
        world.put()
    assert "archive" in caught.value.hint
    assert world.names("trees/") == set()
