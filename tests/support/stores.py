"""Folders to store and a store to put them in."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forge.bundle import TreeReference
from forge.store import ActionResult, Store, open_store
from forge.store.backends.open import open_objects
from forge.store.locks.leases import Clock

KEY = hashlib.sha256(b"key").hexdigest()


@dataclass
class Hands:
    """A clock the test moves."""

    time: float = 1_800_000_000.0

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, the same in every run."""
    return random.Random(seed).randbytes(size)  # noqa: S311  not for secrets


def fill(folder: Path, large: int = 3 * 1024 * 1024, seed: int = 0) -> Path:
    """A folder like an engine's: one large file, small ones, an empty one, a script."""
    (folder / "engine" / "1").mkdir(parents=True)
    (folder / "engine" / "1" / "model.bin").write_bytes(noise(large, seed))
    (folder / "engine" / "config.json").write_text('{"layers": 2}')
    (folder / "tokenizer.txt").write_bytes(noise(40_000, seed + 1))
    (folder / "empty").write_bytes(b"")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and mode of each file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def action(reference: TreeReference, key: str = KEY, **changes: object) -> ActionResult:
    values: dict[str, object] = {
        "key": key, "step": "engine@development", "fields": {"argv": "x"},
        "outputs": {"engine": reference}, "seconds": 1.5, "started": "2026-11-23T10:00:00Z",
        "runner": "local",
    }  # fmt: skip
    return ActionResult.model_validate({**values, **changes})


def packs(store: Store) -> Iterator[str]:
    """Names of the stored packs, the largest first."""
    entries = sorted(store.objects.entries("packs/"), key=lambda one: -one.size)
    return (entry.name for entry in entries)


def opened(url: str, cache: Path, environment: dict[str, str], hands: Hands | None) -> Store:
    if hands is None:
        return open_store(url, environment=environment, cache=cache)
    return Store(open_objects(url, environment=environment), cache=cache, clock=hands.clock())


Reopen = Callable[[], Store]
