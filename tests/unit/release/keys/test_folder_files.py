"""Files of a keys folder: read as they are, written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from forge.errors import ForgeError, TrustError, UsageError
from forge.release.keys import folder_files
from forge.release.keys.folder_files import FolderFile, read_files, write_files
from tests.support.release_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def test_copy_of_a_folder_has_the_same_files_and_closed_private_keys(
    world: World, tmp_path: Path
) -> None:
    files = read_files(world.keys)
    assert {"keys.json", "root.json", "root-1.pem", "model.pub.pem", "metadata/1.root.json"} < {
        one.path for one in files
    }
    before = os.umask(0)
    try:
        write_files(tmp_path / "deep/new", files)
    finally:
        os.umask(before)
    assert read_files(tmp_path / "deep/new") == files
    for path in (tmp_path / "deep/new").glob("*.pem"):
        mode = 0o644 if path.name == "model.pub.pem" else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "deep/new").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


def test_unencrypted_private_key_is_not_copied(world: World) -> None:
    ring = world.ring()
    key = ring.private_key(ring.entries("online")[0])
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (world.keys / "old.txt").write_bytes(b"notes\n" + data)
    with pytest.raises(UsageError, match=r"private key .*old\.txt is not encrypted") as caught:
        read_files(world.keys)
    assert "openssl pkcs8 -topk8" in caught.value.hint


def test_link_is_not_copied(world: World, tmp_path: Path) -> None:
    (world.keys / "root-1.pem").rename(tmp_path / "stick.pem")
    (world.keys / "root-1.pem").symlink_to(tmp_path / "stick.pem")
    with pytest.raises(UsageError, match=r"root-1\.pem is not a regular file"):
        read_files(world.keys)


@pytest.mark.parametrize("there", ["file", "other/file"])
def test_folder_with_anything_in_it_is_not_written_to(tmp_path: Path, there: str) -> None:
    (tmp_path / "new" / there).parent.mkdir(parents=True)
    (tmp_path / "new" / there).write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        write_files(tmp_path / "new", [FolderFile("keys.json", 0o644, b"{}")])
    assert (tmp_path / "new" / there).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_path_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    for path in ("../outside", "/tmp/outside", "a/../../outside"):  # noqa: S108  nothing is written
        with pytest.raises(TrustError, match="Unsafe path"):
            write_files(tmp_path / "new", [FolderFile(path, 0o600, b"x")])
    assert list(tmp_path.iterdir()) == []


def test_copy_that_reads_back_otherwise_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flipped(path: Path, data: bytes, mode: int) -> None:
        path.write_bytes(data[:-1] + b"?")
        path.chmod(mode)

    monkeypatch.setattr(folder_files, "write_durably", flipped)
    with pytest.raises(ForgeError, match="not what was written"):
        write_files(tmp_path / "new", [FolderFile("keys.json", 0o644, b"{}")])
    assert list(tmp_path.iterdir()) == []
