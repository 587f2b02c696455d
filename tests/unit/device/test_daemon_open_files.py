"""The limit of open files, as `ulimit -n` shows it to what the agent starts."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator

import pytest

from forge.device.daemon import allow_many


@pytest.fixture
def hard() -> Iterator[int]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_soft_limit_is_raised_to_the_hard_one_and_what_is_started_has_it(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    allowed = allow_many()
    assert allowed == (65536 if hard == resource.RLIM_INFINITY else min(hard, 65536))
    done = subprocess.run(["sh", "-c", "ulimit -n"], capture_output=True, text=True, check=True)
    assert int(done.stdout) == allowed


def test_a_limit_that_is_high_enough_stays(hard: int) -> None:
    before = allow_many()
    assert allow_many() == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
