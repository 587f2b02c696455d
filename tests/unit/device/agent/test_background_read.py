"""A file is read slowly, can be interrupted at each block, and has the right digest."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from forge import canonical
from forge.device.agent.background_read import idle_priority, sha256_slowly
from forge.store.backends.throttle import RateLimit

DATA = os.urandom(1_000_000)


class Time:
    """Seconds that pass by sleeping only."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(DATA)
    return path


def test_the_digest_is_that_of_the_whole_file_at_the_rate(file: Path) -> None:
    time = Time()
    limit = RateLimit(100_000, lambda: time.now, time.sleep)
    assert sha256_slowly(file, limit, lambda: None) == canonical.sha256(DATA)
    assert time.now == pytest.approx(10.0)


def test_it_asks_before_each_block_and_ends_when_told(file: Path) -> None:
    limit, asked = RateLimit(10**12), list[int]()

    def check() -> None:
        asked.append(len(asked))
        if len(asked) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sha256_slowly(file, limit, check)
    assert len(asked) == 5
    assert limit.block * 5 < len(DATA)


def test_only_the_thread_that_asks_gets_the_lowest_priority() -> None:
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), list[int]()

    def work() -> None:
        idle_priority()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [19]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
