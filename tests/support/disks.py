"""Small real disks of a test's own: ext4 in a file on a loop device, or a tmpfs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

__all__ = ["Disk", "make_ext4", "mounted"]

_FREE_S: Final = 600.0  # a container of another test may serve for minutes


@dataclass(frozen=True)
class Disk:
    """One mounted disk.

    Attributes:
        path: where.
        image: the file behind it; for a tmpfs its mount point.
    """

    path: Path
    image: Path

    def flush(self) -> None:
        """Write out everything the kernel holds back for this disk."""
        _run("sync", "-f", str(self.path))

    def device(self) -> str:
        """`loop3`."""
        number = self.path.stat().st_dev
        return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name

    def written(self) -> str:
        """A number that grows with each write to the disk itself."""
        columns = Path(f"/sys/block/{self.device()}/stat").read_text().split()
        return f"{columns[4]} {columns[8]}"

    def cut(self, copy: Path) -> None:
        """Copy the disk as a power cut at this instant would leave it: without what is in memory.

        Nobody writes to the disk while the copy is made, or it is made again.
        """
        for _ in range(20):
            before = self.written()
            _run("cp", "--sparse=always", str(self.image), str(copy))
            if self.written() == before:
                return
            time.sleep(0.02)
        raise AssertionError("the disk was never quiet")

    def fill(self) -> None:
        """Take all free bytes."""
        with (
            contextlib.suppress(OSError),
            (self.path / "filler").open("wb", buffering=0) as file,
        ):
            while True:
                file.write(bytes(4096))

    def fill_names(self) -> None:
        """Take all free inodes."""
        folder = self.path / "names"
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            for number in range(1_000_000):
                (folder / str(number)).touch()

    def empty(self) -> None:
        """Give back what `fill` and `fill_names` took."""
        _run("rm", "-rf", str(self.path / "filler"), str(self.path / "names"))

    def fail(self) -> None:
        """An ext4 finds an error in itself and lets nobody write any more."""
        Path(f"/sys/fs/ext4/{self.device()}/trigger_fs_error").write_text("test")


def make_ext4(image: Path, mib: int, *options: str) -> Path:
    """An empty ext4 file system in a file; skips where there is no mkfs.ext4."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no disk of its own for this test: mkfs.ext4 is not here")
    with image.open("wb") as file:
        file.truncate(mib * 2**20)
    _run("mkfs.ext4", "-q", "-F", *options, str(image))
    return image


@contextlib.contextmanager
def mounted(path: Path, image: Path | None, *options: str) -> Iterator[Disk]:
    """Mount an image, or a tmpfs, for the body; skips where nobody may mount."""
    path.mkdir(parents=True, exist_ok=True)
    kind = ["-t", "tmpfs", "tmpfs"] if image is None else [str(image)]
    words = [*(() if image is None else ("loop",)), *options]
    argv = ["mount", *(["-o", ",".join(words)] if words else []), *kind, str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as error:
        pytest.skip(f"no disk of its own for this test: {error}")
    if done.returncode:
        pytest.skip(f"no disk of its own for this test: {done.stderr.strip()}")
    try:
        yield Disk(path, image or path)
    finally:
        for _ in range(50):  # a server that was killed may still have a file open
            if subprocess.run(["umount", str(path)], check=False, timeout=60).returncode == 0:
                break
            time.sleep(0.1)
        else:
            _run("umount", "-l", str(path))
        if image is not None:
            _wait_until_free(image)


def _wait_until_free(image: Path) -> None:
    """Wait until no mount namespace has the image mounted any more.

    A container that another test starts takes a copy of all mounts. While it runs, the file system
    lives on, and whoever mounts the image again gets that one, read-only if it was.
    """
    deadline = time.monotonic() + _FREE_S
    while True:
        argv = ["losetup", "--associated", str(image)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        if not done.stdout.strip():
            return
        assert time.monotonic() < deadline, f"still mounted somewhere: {done.stdout}"
        time.sleep(0.1)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
