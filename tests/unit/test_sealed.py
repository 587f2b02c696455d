"""Deleting a folder that a program of a bundle filled, and having one's own folders back."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
from pathlib import Path

import pytest

from forge import sealed
from tests.support.ordinary_user import as_ordinary_user, nested

DEEP = 3000  # Python's stack has 1000 levels, and 4096 bytes is the longest path


def test_a_folder_of_any_depth_is_deleted(tmp_path: Path) -> None:
    nested(tmp_path / "a", DEEP)
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        sealed.remove(tmp_path / "a")
        assert list(tmp_path.iterdir()) == []
    finally:  # pytest cannot delete it either
        subprocess.run(["rm", "-rf", str(tmp_path / "a")], check=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
def test_folders_without_permissions_are_deleted_by_their_owner(tmp_path: Path, mode: int) -> None:
    def work(here: Path) -> None:
        folder = here / "a"
        nested(folder, 5, mode)
        sealed.remove(folder)
        assert not folder.exists()

    as_ordinary_user(tmp_path, work)


def test_links_are_deleted_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inside").mkdir(parents=True)
    (kept / "inside" / "file").write_text("kept")
    kept.chmod(0o500)
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "folder").symlink_to(kept)
    (folder / "b" / "file").symlink_to(kept / "inside" / "file")
    (folder / "b" / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    sealed.remove(folder)
    assert not folder.exists()
    assert (kept / "inside" / "file").read_text() == "kept"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o500


def test_a_link_is_not_a_folder_to_delete(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        sealed.remove(tmp_path / "link")
    assert (tmp_path / "kept").is_dir()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sealed.remove(tmp_path / secrets.token_hex(4))


def test_a_folder_that_was_moved_meanwhile_is_left_where_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `..` would lead to what else is there."""
    (tmp_path / "other" / "kept").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = sealed._without_files

    def moved(folder: int) -> sealed._Level:
        if (tmp_path / "a" / "b").exists() and Path(
            f"/proc/self/fd/{folder}"
        ).readlink().name == "b":
            (tmp_path / "a" / "b").rename(tmp_path / "other" / "b")
        return found(folder)

    monkeypatch.setattr(sealed, "_without_files", moved)
    with pytest.raises(OSError, match="was moved"):
        sealed.remove(tmp_path / "a")
    assert (tmp_path / "other" / "kept").is_dir()


def test_an_owner_has_a_file_and_a_folder_back_and_other_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o040)
    (tmp_path / "folder").mkdir(0o005)
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "folder"):
        sealed.own(tmp_path / name)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o705
    with pytest.raises(OSError, match="symbolic links"):
        sealed.own(tmp_path / "link")
