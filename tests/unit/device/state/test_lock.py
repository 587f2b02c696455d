"""The lock of a state folder: who only asks for its holder keeps nobody from starting."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

import pytest

from forge.device.state.directory import StateDirectory
from forge.errors import ConfigurationError


def test_somebody_who_asks_for_the_holder_does_not_make_a_start_fail(tmp_path: Path) -> None:
    home = StateDirectory(tmp_path)
    with home.locked():
        pass
    asking, asked = threading.Event(), 0.3

    def ask() -> None:
        # What holder() does, for longer than its fifty microseconds.
        with (tmp_path / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            asking.set()
            time.sleep(asked)

    thread = threading.Thread(target=ask)
    thread.start()
    assert asking.wait(10)
    with home.locked():
        pass
    thread.join()


def test_starts_succeed_while_status_is_asked_in_a_loop(tmp_path: Path) -> None:
    home = StateDirectory(tmp_path)
    with home.locked():
        pass
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            home.holder()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(200):
            with home.locked():
                pass
    finally:
        stop.set()
        thread.join()


def test_a_lock_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        StateDirectory(tmp_path / "state").holder()
