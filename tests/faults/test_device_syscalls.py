"""SIGKILL of the real agent instead of its n-th system call that changes files.

Bounded on each push (FORGE_FAULTS_SEED chooses the points), every single one by `make test-all`.
After each kill the current slot is checked byte by byte, the agent is run again, the new bundle has
to be installed and no file may be left that an undisturbed update does not leave. At some of the
points the agent also has to serve straight away, without a store in reach.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from forge.errors import ForgeError
from tests.support import syscalls
from tests.support.campaign import Campaign, sample
from tests.support.survival import Setup, check_no_server, listing
from tests.support.walks import WALKS, Walk, prepared, survives

pytestmark = [pytest.mark.kills, pytest.mark.slow, pytest.mark.network]


def undisturbed(walk: Walk, setups: dict[str, Setup], folder: Path) -> tuple[int, set[str]]:
    """How many calls there are, and which files are there in the end."""
    one = prepared(walk, setups, folder)
    outcome = syscalls.run(walk.argv(one), lambda _call: "go on")
    assert outcome.status in {0, 10}, outcome.output
    walk.finish(setups[walk.before], one)
    return len(outcome.calls), listing(one.state)


def killed(
    walk: Walk, setups: dict[str, Setup], folder: Path, number: int, *, serve: bool
) -> tuple[syscalls.Call | None, set[str]]:
    """One kill, everything checked; where it was, and which files are there in the end."""
    setup, one = setups[walk.before], prepared(walk, setups, folder)
    outcome = syscalls.run(walk.argv(one), syscalls.kill_at(number))
    check_no_server(one)
    try:
        left = survives(walk, setup, one, serve=serve)
    except (AssertionError, ForgeError, OSError, httpx.HTTPError) as error:
        raise AssertionError(
            f"killed at {outcome.killed}: {type(error).__name__} {error}"
        ) from error
    return outcome.killed, left


def walk_through(
    walk: Walk, setups: dict[str, Setup], folder: Path, out: Path, most: int | None
) -> None:
    campaign = Campaign(out, walk.name, f"SIGKILL in {walk.what}", "system calls")
    campaign.possible, files = undisturbed(walk, setups, folder / "undisturbed")
    # A few calls more than there were: their number differs by what the threads do.
    for turn, number in enumerate(sample(campaign.possible + 3 * (most is None), most)):
        serve = walk.serve_each > 0 and turn % walk.serve_each == walk.serve_each // 2
        try:
            call, left = killed(walk, setups, folder / str(number), number, serve=serve)
            assert left <= files, f"killed at {call}: left over {sorted(left - files)}"
        except AssertionError as error:
            campaign.failures.append(str(error))
            call = None
            campaign.tried += 1
        else:
            campaign.tried += call is not None
            campaign.served += serve and call is not None
            shutil.rmtree(folder / str(number))
    campaign.finish()


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)
def test_a_device_killed_at_some_system_calls_is_whole_and_goes_on(
    walk: Walk, setups: dict[str, Setup], tmp_path: Path, faults_out: Path
) -> None:
    walk_through(walk, setups, tmp_path, faults_out / "bounded", walk.most)


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)
def test_a_device_killed_at_every_system_call_is_whole_and_goes_on(
    walk: Walk, setups: dict[str, Setup], tmp_path: Path, faults_out: Path
) -> None:
    walk_through(walk, setups, tmp_path, faults_out, None)
