"""What holds for every test: nothing of the machine's state, no process left, groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from forge import sealed
from tests.support import cheap_keys, groups, isolation, time_limit
from tests.support.scheduler import Scheduler
from tests.support.spawn import Spawn, spawning

# Columns of the list of failed tests, which gives each one's reason: a log of CI may hold no more.
_SUMMARY_WIDTH: Final = 240


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--group", choices=[*groups.COMMANDS], default="all", help="see tests/support/groups.py"
    )


def pytest_configure() -> None:
    isolation.prepare()
    cheap_keys.use()


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist runs
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduler:
    return Scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = groups.selected(items, config.getoption("--group"))
    if left := [item for item, runs in chosen.items() if not runs]:
        items[:] = [item for item in items if chosen[item]]
        config.hook.pytest_deselected(items=left)


@pytest.hookimpl(tryfirst=True)  # before any fixture of the test
def pytest_runtest_setup() -> None:
    if time_limit.reached():
        pytest.skip(time_limit.REASON)


def pytest_terminal_summary(config: pytest.Config) -> None:
    config.get_terminal_writer().fullwidth = _SUMMARY_WIDTH


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with isolation.folders(tmp_path_factory.mktemp("session", numbered=False)):
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    with isolation.logging_restored():
        yield


@pytest.fixture(scope="module")
def module_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder of this module's tests, deleted with the last one unless one failed.

    The builders' checkpoints and engines are gigabytes; pytest keeps folders of three sessions.
    """
    folder = tmp_path_factory.mktemp("module")
    failed = request.session.testsfailed
    yield folder
    if request.session.testsfailed == failed:
        sealed.remove(folder)  # also what is read-only


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """`subprocess.Popen`, and the end of what it started when the test ends."""
    with spawning() as start:
        yield start
