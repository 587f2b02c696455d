"""Move keys out of the checkout: at every moment one complete folder is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forge.errors import StoreError, UsageError
from forge.files import write_durably
from forge.release.keys import folder_files
from forge.release.keys.folder_files import FolderFile, read_files
from forge.release.keys.move import move_keys
from tests.support.release_world import World


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A keys folder in a project's working folder."""
    (tmp_path / "p/.forge").mkdir(parents=True)
    World(tmp_path, memory=True).keys.rename(tmp_path / "p/.forge/keys")
    return tmp_path / "p/.forge/keys"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "config/keys/p"


def test_moved_keys_are_complete_and_gone_from_the_checkout(old: Path, new: Path) -> None:
    files = read_files(old)
    assert move_keys(old, new)
    assert read_files(new) == files
    assert not old.exists()
    assert old.parent.is_dir()
    assert not move_keys(old, new)  # again
    assert read_files(new) == files


class KillError(BaseException):
    """The process ends here."""


class Dying:
    """Writes and deletions that end the process after a number of files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        monkeypatch.setattr(folder_files, "write_durably", self._write)
        monkeypatch.setattr(shutil, "rmtree", self._rmtree)

    def _tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KillError

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        self._tick()
        write_durably(path, data, mode)

    def _rmtree(self, folder: Path, **_: object) -> None:
        for path in sorted(folder.rglob("*"), reverse=True):
            self._tick()
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


def die_after(dying: Dying, files: int, old: Path, new: Path) -> bool:
    """Move until that many files were written or deleted; return whether the move ended first."""
    dying.left = files
    try:
        move_keys(old, new)
    except KillError:
        return False
    finally:
        dying.left = 1000
    return True


def test_move_that_is_killed_at_any_file_is_completed_by_the_next(
    old: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = read_files(old)
    shutil.copytree(old, tmp_path / "saved")
    dying = Dying(monkeypatch)
    ended, allowed = False, 0
    while not ended:
        ended = die_after(dying, allowed, old, new)
        complete = [place for place in (old, new) if (place / "keys.json").is_file()]
        assert complete
        assert all(read_files(place) == files for place in complete)
        move_keys(old, new)
        assert read_files(new) == files
        assert not old.exists()
        shutil.rmtree(new.parent)
        shutil.copytree(tmp_path / "saved", old)
        allowed += 1
    assert allowed > len(files)


def test_other_keys_in_the_new_folder_are_not_overwritten(
    old: Path, new: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    new.parent.mkdir(parents=True)
    World(tmp_path / "other", memory=True).keys.rename(new)
    (new / "keys.json").write_bytes((new / "keys.json").read_bytes() + b" ")
    before = (read_files(old), read_files(new))
    with pytest.raises(UsageError, match=f"{new} is not empty"):
        move_keys(old, new)
    assert (read_files(old), read_files(new)) == before


def test_full_disk_keeps_the_old_folder(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = read_files(old)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_files, "write_durably", full)
    with pytest.raises(StoreError, match="cannot be moved") as caught:
        move_keys(old, new)
    assert "No space left" in caught.value.why
    assert read_files(old) == files
    assert list(new.parent.iterdir()) == []


def test_link_to_keys_elsewhere_is_explained(old: Path, new: Path, tmp_path: Path) -> None:
    old.rename(tmp_path / "elsewhere")
    old.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link") as caught:
        move_keys(old, new)
    assert f"FORGE_KEYS={tmp_path}/elsewhere" in caught.value.hint


@pytest.mark.parametrize("place", ["p/.forge/others", "store/keys"])
def test_move_into_a_place_that_is_deleted_or_published_is_refused(
    old: Path, tmp_path: Path, place: str
) -> None:
    with pytest.raises(UsageError, match="Keys must not be"):
        move_keys(old, tmp_path / place, str(tmp_path / "store"))
    assert (old / "keys.json").is_file()


def test_folder_without_keys_is_not_moved(tmp_path: Path, new: Path) -> None:
    with pytest.raises(UsageError, match="There are no keys in"):
        move_keys(tmp_path / "none", new)
    assert not new.exists()


def test_key_that_is_named_by_its_old_path_is_refused(old: Path, new: Path) -> None:
    path = old / "keys.json"
    path.write_text(path.read_text().replace("file:online.pem", f"file:{old}/online.pem"))
    with pytest.raises(UsageError, match="online is named by its absolute path") as caught:
        move_keys(old, new)
    assert "write file:online.pem" in caught.value.hint


def test_strange_file_in_the_folder_is_moved_with_it(old: Path, new: Path) -> None:
    (old / "notes").mkdir()
    (old / "notes/README").write_text("who has root-1")
    move_keys(old, new)
    assert FolderFile("notes/README", 0o644, b"who has root-1") in read_files(new)
