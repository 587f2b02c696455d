"""Back up keys to one file, and restore them."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, StoreError, TrustError, UsageError
from forge.release.keys.backup import backup_keys, restore_keys
from forge.release.keys.folder_files import read_files
from forge.release.keys.keyring import Keyring
from tests.support.release_world import PASSPHRASE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def test_restored_keys_are_those_of_the_backup_and_sign(world: World, tmp_path: Path) -> None:
    assert backup_keys(world.keys, tmp_path / "b.tar") == []
    made = restore_keys(tmp_path / "b.tar", tmp_path / "restored")
    assert read_files(tmp_path / "restored") == read_files(world.keys)
    assert made == world.ring().file
    ring = Keyring(tmp_path / "restored", lambda: PASSPHRASE)
    for entry in ring.file.keys:
        ring.signer(entry).sign(b"x")


def test_backup_is_readable_by_its_owner_only_and_has_no_plain_key(
    world: World, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        backup_keys(world.keys, tmp_path / "b.tar")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    data = (tmp_path / "b.tar").read_bytes()
    private = len(list(world.keys.glob("*.pem"))) - 1  # model.pub.pem
    assert data.count(b"BEGIN ENCRYPTED PRIVATE KEY") == private
    assert data.count(b"PRIVATE KEY-----") == 2 * private
    assert PASSPHRASE.encode() not in data


def test_tar_alone_restores_a_backup(world: World, tmp_path: Path) -> None:
    backup_keys(world.keys, tmp_path / "b.tar")
    (tmp_path / "by-hand").mkdir()
    command = ["tar", "-xf", str(tmp_path / "b.tar"), "-C", str(tmp_path / "by-hand")]
    subprocess.run(command, check=True, timeout=30)
    command = ["sha256sum", "--check", "--strict", "--quiet", "BACKUP.sha256"]
    subprocess.run(command, cwd=tmp_path / "by-hand", check=True, timeout=30)
    (tmp_path / "by-hand/BACKUP.sha256").unlink()
    assert read_files(tmp_path / "by-hand") == read_files(world.keys)
    ring = Keyring(tmp_path / "by-hand", lambda: PASSPHRASE)
    ring.signer(ring.entries("online")[0])  # its mode is not too open


def test_keys_that_are_elsewhere_are_named(world: World, tmp_path: Path) -> None:
    ring = world.ring()
    (world.keys / "root-1.pem").unlink()  # offline
    (world.keys / "root-2.pem").rename(tmp_path / "stick.pem")
    uris = {"root-2": f"file:{tmp_path}/stick.pem", "online": "awskms:alias/online"}
    moved = [one.model_copy(update={"uri": uris.get(one.name, one.uri)}) for one in ring.file.keys]
    ring.save(ring.file.model_copy(update={"keys": tuple(moved)}))
    assert backup_keys(world.keys, tmp_path / "b.tar") == ["root-1", "root-2", "online"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_file_that_is_there_is_not_overwritten(world: World, tmp_path: Path, kind: str) -> None:
    (tmp_path / "mine").write_text("mine")
    target = tmp_path / ("mine" if kind == "file" else "link")
    if kind == "link":
        target.symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match=f"{target} exists"):
        backup_keys(world.keys, target)
    assert (tmp_path / "mine").read_text() == "mine"


def test_backup_in_the_store_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(UsageError, match="must not be inside the store"):
        backup_keys(world.keys, tmp_path / "store/b.tar", str(tmp_path / "store"))
    assert list((tmp_path / "store").iterdir()) == []


def test_backup_that_cannot_be_written_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        backup_keys(world.keys, tmp_path / "no/b.tar")


def test_keys_are_never_overwritten_by_a_backup(world: World, tmp_path: Path) -> None:
    backup_keys(world.keys, tmp_path / "b.tar")
    before = read_files(world.keys)
    with pytest.raises(UsageError, match="is not empty"):
        restore_keys(tmp_path / "b.tar", world.keys)
    assert read_files(world.keys) == before


def archive(path: Path, name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w") as made:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
        made.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("keys.json", tarfile.SYMTYPE, ConfigurationError),
        ("keys.json", tarfile.CHRTYPE, ConfigurationError),
        ("other.json", tarfile.REGTYPE, ConfigurationError),
        ("../keys.json", tarfile.REGTYPE, TrustError),
        ("/keys.json", tarfile.REGTYPE, TrustError),
    ],
)
def test_archive_that_is_no_backup_writes_nothing(
    tmp_path: Path, name: str, kind: bytes, error: type[Exception]
) -> None:
    archive(tmp_path / "b.tar", name, kind=kind)
    with pytest.raises(error):
        restore_keys(tmp_path / "b.tar", tmp_path / "keys")
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_damaged_backup_writes_nothing(world: World, tmp_path: Path) -> None:
    backup_keys(world.keys, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    key = whole.index(b"BEGIN ENCRYPTED") + 60
    flipped = whole[:key] + bytes([whole[key] ^ 1]) + whole[key + 1 :]
    for data in (b"", b"not an archive", whole[: len(whole) // 2], flipped):
        (tmp_path / "b.tar").write_bytes(data)
        with pytest.raises(ConfigurationError, match=r"is not a backup of keys|is damaged"):
            restore_keys(tmp_path / "b.tar", tmp_path / "restored")
        assert not (tmp_path / "restored").exists()
