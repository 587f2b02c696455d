"""The queue in front of Triton, without HTTP: order, shares, bounds, swaps, nothing that leaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from forge.device.gateway.admission import Admission
from forge.device.gateway.config import QueueRules
from forge.device.gateway.errors import ServiceUnavailableError, TooManyRequestsError
from forge.device.power.energy_account import EnergyAccount
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.release import Release
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.energy.power_reading import PowerReading


def serving(slot: str = "a") -> ActiveServer:
    return ActiveServer(
        url=f"http://{slot}",
        model="llm",
        slot="a" if slot == "a" else "b",
        release=Release(name="llm", version="1.0.0", profile="development", manifest="0" * 64),
        triton="2.51.0",
        runtime={},
        default_max_tokens=16,
        max_seq_len=64,
    )


class Device:
    """A queue whose limit and slot a test sets."""

    def __init__(self, places: int, rules: QueueRules | None = None) -> None:
        self.upstream, self.limit = Upstream(), ConcurrencyLimit(places, "the batch of the bundle")
        self.upstream.set(serving())
        self.queue = Admission(self.upstream, self.limit, rules)
        self.order: list[int] = []
        self.peak = 0

    async def ask(self, number: int, seconds: float = 0.02, caller: str = "") -> str:
        place = await self.queue.enter(caller)
        try:
            self.order.append(number)
            self.peak = max(self.peak, self.queue.counts.inside)
            await asyncio.sleep(seconds)
        finally:
            place.leave()
        return place.serving.url

    def start(self, number: int, seconds: float = 0.02, caller: str = "") -> asyncio.Task[str]:
        return asyncio.create_task(self.ask(number, seconds, caller))

    def check_empty(self) -> None:
        assert (self.queue.counts.inside, self.queue.counts.waiting) == (0, 0)
        assert self.upstream.drain(0) == 0


def go(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work, debug=True)


def test_who_comes_first_is_asked_first_and_never_more_than_the_limit() -> None:
    async def work() -> None:
        device = Device(2)
        await asyncio.gather(*(device.ask(number) for number in range(12)))
        assert device.order == list(range(12))
        assert device.peak == 2
        assert device.queue.counts.queued == 10
        assert device.queue.counts.waited_s > 0
        device.check_empty()

    go(work())


def test_nobody_overtakes_those_that_wait() -> None:
    async def work() -> None:
        device = Device(1)
        tasks = [device.start(number) for number in range(3)]
        await asyncio.sleep(0.03)  # the first has left or is about to
        tasks.append(device.start(3))
        await asyncio.gather(*tasks)
        assert device.order == [0, 1, 2, 3]

    go(work())


async def waiting(device: Device, number: int) -> None:
    """Return when that many requests wait."""
    while device.queue.counts.waiting != number:  # noqa: ASYNC110  it has no event
        await asyncio.sleep(0)


def test_a_caller_with_one_request_does_not_wait_for_all_of_another() -> None:
    async def work() -> None:
        device = Device(2)
        places = [await device.queue.enter("many") for _ in range(2)]
        tasks = [device.start(number, caller="many") for number in range(8)]
        await waiting(device, 8)
        tasks.append(device.start(8, caller="one"))
        await waiting(device, 9)
        for place in places:
            place.leave()
        await asyncio.gather(*tasks)
        assert device.order[0] == 8  # the first place that became free
        assert device.order[1:] == list(range(8))
        device.check_empty()

    go(work())


def test_a_caller_that_fills_the_queue_makes_room_for_another() -> None:
    async def work() -> None:
        device = Device(1, QueueRules(per_place=3))
        place = await device.queue.enter("many")
        many = [device.start(number, caller="many") for number in range(3)]
        await waiting(device, 3)
        one = device.start(3, caller="one")
        with pytest.raises(
            TooManyRequestsError, match=r"another caller has fewer .*, 3 wait"
        ) as why:
            await many[2]
        assert why.value.retry_after_s >= 1
        place.leave()
        await asyncio.gather(*many[:2], one)
        assert device.order == [0, 3, 1]  # in turns
        assert device.queue.counts.busy == 1
        device.check_empty()

    go(work())


def test_a_caller_that_is_gone_is_not_refused_a_second_time() -> None:
    async def work() -> None:
        device = Device(1, QueueRules(per_place=2))
        place = await device.queue.enter("many")
        tasks = [device.start(number, caller="many") for number in range(2)]
        await waiting(device, 2)
        tasks[1].cancel()
        one = device.start(2, caller="one")  # begins before the task of the cancelled one runs
        await asyncio.sleep(0)
        place.leave()
        await asyncio.gather(*tasks, one, return_exceptions=True)
        assert tasks[1].cancelled()
        assert (device.queue.counts.busy, device.order) == (0, [0, 2])
        device.check_empty()

    go(work())


def test_a_full_queue_refuses_with_the_reason_and_when_to_come_back() -> None:
    async def work() -> None:
        device = Device(1, QueueRules(per_place=2))
        tasks = [device.start(number, 0.5) for number in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(
            TooManyRequestsError,
            match=r"^The queue is full: 1 .* \(limit 1\), 2 wait \(limit 2\)\n",
        ) as caught:
            await device.ask(3)
        device.limit.set(2, "cool", 4)
        device.limit.set(1, "86.0 °C", 4)
        with pytest.raises(TooManyRequestsError, match=r"queue is full: .*lowered: 86\.0 °C\n"):
            await device.ask(3)
        assert caught.value.retry_after_s >= 1
        assert device.queue.counts.busy == 2
        await asyncio.gather(*tasks)
        device.check_empty()

    go(work())


def test_retry_after_is_what_the_queue_takes_at_the_pace_that_was_seen() -> None:
    async def work() -> None:
        device = Device(1, QueueRules(per_place=3))
        await device.ask(0, 0.9)
        tasks = [device.start(number, 0.05) for number in range(1, 5)]
        await asyncio.sleep(0.01)
        with pytest.raises(TooManyRequestsError) as caught:
            await device.ask(9)
        assert caught.value.retry_after_s == 4  # four ahead, 0.9 s each
        await asyncio.gather(*tasks)

    go(work())


def test_who_waited_too_long_is_sent_away_and_leaves_the_queue() -> None:
    async def work() -> None:
        device = Device(1, QueueRules(max_wait_s=0.1))
        first = device.start(0, 0.4)
        await asyncio.sleep(0.01)
        with pytest.raises(TooManyRequestsError, match=r"No place became free within 0\.1 s: 1 "):
            await device.ask(1)
        assert device.queue.counts.waiting == 0
        await first
        device.check_empty()

    go(work())


def test_without_a_slot_nobody_waits() -> None:
    async def work() -> None:
        device = Device(1)
        device.upstream.clear("llm 1.1.0 is being activated")
        with pytest.raises(ServiceUnavailableError) as caught:
            await device.ask(0)
        assert (caught.value.hint, caught.value.retry_after_s) == (
            "llm 1.1.0 is being activated",
            5,
        )
        assert device.queue.counts.unavailable == 1
        device.check_empty()

    go(work())


def test_those_that_wait_during_a_swap_go_on_with_the_new_slot() -> None:
    async def work() -> None:
        device = Device(1)
        first, second = device.start(0, 0.1), device.start(1)
        await asyncio.sleep(0.01)
        device.upstream.clear("swap")
        assert await first == "http://a"
        assert device.upstream.drain(0) == 0  # the one that waits holds no slot back
        await asyncio.sleep(0.1)
        assert device.queue.counts.waiting == 1
        device.upstream.set(serving("b"))
        assert await second == "http://b"
        device.check_empty()

    go(work())


def test_those_that_wait_through_a_swap_that_lasts_are_told_so() -> None:
    async def work() -> None:
        device = Device(1, QueueRules(max_wait_s=0.2))
        first, second = device.start(0), device.start(1)
        await asyncio.sleep(0.01)
        device.upstream.clear("swap")
        await first
        with pytest.raises(ServiceUnavailableError):
            await second
        device.check_empty()

    go(work())


def test_a_limit_that_falls_lets_nobody_in_until_enough_have_left() -> None:
    async def work() -> None:
        device = Device(4)
        tasks = [device.start(number, 0.1) for number in range(8)]
        await asyncio.sleep(0.01)
        device.limit.set(1, "hot")
        await asyncio.gather(*tasks[:4])
        device.peak = 0
        await asyncio.gather(*tasks)
        assert device.peak == 1

    go(work())


def test_a_limit_that_rises_lets_those_in_that_wait() -> None:
    async def work() -> None:
        device = Device(1)
        tasks = [device.start(number, 0.5) for number in range(3)]
        await asyncio.sleep(0.01)
        device.limit.set(3, "cool")
        await asyncio.sleep(0.2)
        assert device.queue.counts.inside == 3
        await asyncio.gather(*tasks)

    go(work())


def test_who_goes_away_while_waiting_leaves_the_queue() -> None:
    async def work() -> None:
        device = Device(1)
        tasks = [device.start(number, 0.1) for number in range(3)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert device.order == [0, 2]
        device.check_empty()

    go(work())


def test_a_place_that_comes_in_the_moment_of_leaving_is_not_lost() -> None:
    async def work() -> None:
        device = Device(1)
        place = await device.queue.enter()
        waits, next_one = device.start(1), device.start(2)
        await asyncio.sleep(0.01)
        place.leave()
        place.leave()  # the second time is nothing
        waits.cancel()  # the place was given to it in this very turn of the loop
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert await asyncio.wait_for(next_one, 1) == "http://a"
        device.check_empty()

    go(work())


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_the_limit_holds_and_nothing_is_left(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no key

    async def work() -> None:
        device = Device(4, QueueRules(per_place=3, max_wait_s=0.05))
        tasks = []
        for number in range(300):
            caller = chance.choice("aaab")
            tasks.append(device.start(number, chance.uniform(0, 0.02), caller))
            match chance.randrange(8):
                case 0:
                    chance.choice(tasks).cancel()
                case 1:
                    device.limit.set(chance.randint(1, 4), "weather")
                case 2:
                    device.upstream.clear("swap")
                case 3 | 4:
                    device.upstream.set(serving())
                case _:
                    await asyncio.sleep(chance.uniform(0, 0.004))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        known = (str, TooManyRequestsError, ServiceUnavailableError, asyncio.CancelledError)
        assert all(isinstance(end, known) for end in ends)
        assert device.peak <= 4
        device.check_empty()

    go(work())


def test_each_place_counts_its_request_among_those_that_share_the_energy() -> None:
    now, joules = [0.0], list[float]()
    account = EnergyAccount(joules.append, lambda: now[0])
    upstream = Upstream()
    upstream.set(serving())
    queue = Admission(upstream, ConcurrencyLimit(2, "two"), energy=account)

    async def requests() -> None:
        now[0] = 1.0
        first, second = await queue.enter(), await queue.enter()
        now[0] = 2.0
        first.leave()
        first.leave()  # counts once
        now[0] = 3.0
        second.leave()

    account.sample(PowerReading(10.0, "hwmon", "VIN"))
    asyncio.run(requests())
    now[0] = 4.0
    account.sample(PowerReading(10.0, "hwmon", "VIN"))
    assert joules == pytest.approx([5, 15])
    assert account.report().serving_joules == pytest.approx({"hwmon": 20})
