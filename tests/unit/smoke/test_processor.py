"""Processor time of the server's threads, from a made-up /proc."""

from __future__ import annotations

from pathlib import Path

from forge.smoke.metrics import ProcessorTime
from forge.smoke.processor import processor_time

SESSION = 100


def process(proc: Path, pid: int, session: int, *threads: str, name: str = "triton") -> None:
    for number, schedstat in enumerate(threads):
        (proc / f"{pid}/task/{pid + number}").mkdir(parents=True)
        (proc / f"{pid}/task/{pid + number}/schedstat").write_text(schedstat)
    (proc / f"{pid}/stat").write_text(f"{pid} ({name}) S 1 {session} {session} 0 -1")


def test_every_thread_of_the_session_counts_but_its_leader(tmp_path: Path) -> None:
    process(tmp_path, SESSION, SESSION, "9000000000 9000000000 1\n")  # the supervisor
    process(tmp_path, 101, SESSION, "1000000000 250000000 5\n", "2000000000 0 7\n")
    process(tmp_path, 103, SESSION, "500000000 500000000 2\n", name="a) b (c")
    process(tmp_path, 200, 200, "7000000000 7000000000 1\n")  # another session
    (tmp_path / "meminfo").write_text("")
    assert processor_time(SESSION, tmp_path) == ProcessorTime(3.5, 0.75)


def test_time_is_not_known_if_the_kernel_does_not_count_it(tmp_path: Path) -> None:
    process(tmp_path, 101, SESSION, "")
    (tmp_path / "101/task/101/schedstat").unlink()
    assert processor_time(SESSION, tmp_path) is None
