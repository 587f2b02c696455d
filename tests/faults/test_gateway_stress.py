"""Hundreds of sessions at a device that is updated and rolled back under them, again and again.

Real: the agent as a process, a Triton for each slot, HTTP. FORGE_STRESS_S says for how long each
activation is held under load; 30 s in the bounded variant, 300 s in the exhaustive one.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from forge.bundle import Operating
from forge.device.maintenance import rollback
from forge.profiles import PowerSection, ThermalSection
from tests.support.device_world import Agent, Device, Says, World
from tests.support.sessions import Sessions

pytestmark = [
    pytest.mark.kills,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.real_triton,
]

SESSIONS = 200
SECONDS = float(os.environ.get("FORGE_STRESS_S", "30"))
LONG_SECONDS = float(os.environ.get("FORGE_STRESS_S", "300"))
MOST_RSS_MIB = 256
MOST_GROWTH_MIB = 16  # from the end of the first update and rollback to the end
REST_S = 3.0
COOL = Operating(
    power=PowerSection(mode=None, limit_w=None, lock_clocks=False),
    thermal=ThermalSection(
        throttle_c=140, critical_c=149, batch_floor=1
    ),  # hotter than any machine here
)
FIRST = "1.0.0"
Activation: TypeAlias = Literal["swap", "blue-green"]


def says(version: str, activation: Activation) -> Says:
    return Says(words=f"Paris says {version}", pause_s=0.1, activation=activation)


@dataclass
class Siege:
    """A device under load, and what its operator does meanwhile."""

    world: World
    device: Device
    agent: Agent
    activation: Activation
    operating: Operating | None
    sessions: Sessions
    rss_mib: list[float] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Updates and rollbacks until the time is over, at least one of each."""
        until = time.monotonic() + seconds
        asking = asyncio.create_task(self.sessions.run(SESSIONS))
        try:
            await self.sessions.wait_for(FIRST)
            for number in count(1):
                await self._update_and_rollback(f"1.{number}.0")
                self.rss_mib.append(self._rss_mib())
                if time.monotonic() > until and number > 1:
                    break
        finally:
            self.sessions.stopping.set()
            await asking

    async def _update_and_rollback(self, version: str) -> None:
        says_it = says(version, self.activation)
        await asyncio.to_thread(self.world.publish, version, says_it, operating=self.operating)
        await self.sessions.wait_for(version)
        await asyncio.sleep(REST_S)
        await asyncio.to_thread(rollback, self.device.state, "too slow")
        await self.sessions.wait_for(FIRST)
        await asyncio.sleep(REST_S)

    def _rss_mib(self) -> float:
        text = Path(f"/proc/{self.agent.process.pid}/status").read_text(encoding="utf-8")
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def besiege(
    folder: Path, activation: Activation, operating: Operating | None, seconds: float
) -> Siege:
    """Load and changes for that long; every answer and the agent's memory are judged."""
    world = World(folder)
    world.publish(FIRST, says(FIRST, activation), operating=operating)
    device = world.device()
    device.once()
    words = {f"1.{number}.0": says(f"1.{number}.0", activation).words for number in range(200)}
    with device.running() as agent:
        agent.wait_ready(FIRST)

        async def work() -> Siege:
            siege = Siege(world, device, agent, activation, operating, Sessions(agent.url, words))
            await siege.run(seconds)
            return siege

        siege = asyncio.run(work())
        rss = [f"{one:.0f}" for one in siege.rss_mib]
        said = f"{activation}: {siege.sessions.summary()}; RSS after each change {rss} MiB"
        print(said)  # noqa: T201 - for whoever runs it with -s
    assert siege.sessions.wrong == []
    assert max(siege.rss_mib) < MOST_RSS_MIB
    assert siege.rss_mib[-1] - siege.rss_mib[0] < MOST_GROWTH_MIB
    return siege


def check_swap(siege: Siege) -> None:
    """The limit of the bundle is 4 at once, so most are told to come back; none is lost."""
    assert set(siege.sessions.statuses) == {200, 429, 503}


def check_blue_green(siege: Siege) -> None:
    """Whatever the operator does nobody is refused for it: only a full queue says to come back."""
    assert set(siege.sessions.statuses) <= {200, 429}
    assert siege.sessions.statuses[200] > 0


@pytest.mark.timeout(SECONDS + 240)
def test_in_a_swap_every_refusal_is_explicit_and_memory_is_flat(tmp_path: Path) -> None:
    check_swap(besiege(tmp_path, "swap", COOL, SECONDS))


@pytest.mark.timeout(SECONDS + 240)
def test_in_blue_green_no_request_is_lost_and_memory_is_flat(tmp_path: Path) -> None:
    check_blue_green(besiege(tmp_path, "blue-green", None, SECONDS))


@pytest.mark.exhaustive
@pytest.mark.timeout(LONG_SECONDS + 240)
def test_in_swaps_for_minutes_every_refusal_is_explicit(tmp_path: Path) -> None:
    check_swap(besiege(tmp_path, "swap", COOL, LONG_SECONDS))


@pytest.mark.exhaustive
@pytest.mark.timeout(LONG_SECONDS + 240)
def test_in_blue_green_for_minutes_no_request_is_lost(tmp_path: Path) -> None:
    check_blue_green(besiege(tmp_path, "blue-green", None, LONG_SECONDS))
