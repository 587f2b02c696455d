"""What an error of the disk means for the device: whose it is, and what helps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from forge.device.state.disk_errors import as_forge_error, free_mib, unreadable, unwritable
from forge.errors import BundleError, ConfigurationError, ForgeError, StoreError

FOLDER = Path("/var/lib/forge")


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, StoreError, "free disk space"),
        (errno.EDQUOT, StoreError, "free disk space"),
        (errno.EROFS, StoreError, "dmesg"),
        (errno.EIO, StoreError, "dmesg"),
        (errno.EUCLEAN, StoreError, "dmesg"),
        (errno.EACCES, ConfigurationError, "permissions"),
        (errno.ENOTDIR, ConfigurationError, "permissions"),
    ],
)
def test_a_folder_that_cannot_be_written(number: int, kind: type[ForgeError], hint: str) -> None:
    made = unwritable(FOLDER, error(number))
    assert type(made) is kind
    assert str(FOLDER) in made.what
    assert os.strerror(number) in made.why
    assert hint in made.hint


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EIO, StoreError, "dmesg"),
        (errno.EACCES, ConfigurationError, "run as root"),
        (errno.EPERM, ConfigurationError, "run as root"),
        (errno.ENOTDIR, ConfigurationError, "dmesg"),
    ],
)
def test_a_folder_that_cannot_be_read(number: int, kind: type[ForgeError], hint: str) -> None:
    made = unreadable(FOLDER, error(number))
    assert type(made) is kind
    assert os.strerror(number) in made.why
    assert hint in made.hint
    assert "nothing was changed" in made.hint


def test_an_error_without_a_number_has_a_hint_too() -> None:
    assert isinstance(unwritable(FOLDER, OSError("odd")), ConfigurationError)
    assert unwritable(FOLDER, OSError("odd")).hint
    assert unreadable(FOLDER, OSError("odd")).why == "odd"


def test_a_forge_error_stays_what_it_is(tmp_path: Path) -> None:
    """A BundleError that became a StoreError would not be the release's fault any more."""
    given = BundleError("serving.json is wrong")
    assert as_forge_error(tmp_path, given) is given


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ENOMEM, errno.EMFILE])
def test_any_other_error_of_an_action_is_the_machines(tmp_path: Path, number: int) -> None:
    made = as_forge_error(tmp_path, error(number))
    assert type(made) is StoreError
    assert os.strerror(number) in made.why
    assert "MiB" in made.hint


def test_free_space_is_that_of_a_folder_which_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "deep"
    system = os.statvfs(tmp_path)
    found = free_mib(folder)
    assert folder.is_dir()
    assert found == pytest.approx(system.f_bavail * system.f_frsize / 2**20, rel=0.05)


def test_free_space_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert free_mib(tmp_path / "file" / "state") == 0
