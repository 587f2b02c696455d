"""Two servers asked in turn; a function stands for the requests."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, cast

from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer
from forge.smoke.metrics import RequestTimes
from forge.smoke.pairs import PairLimits, compare_servers
from forge.smoke.regression import compare_pairs
from forge.smoke.result import Pair

REQUESTS = [GenerateRequest(f"prompt {number}", 4) for number in range(3)]


@dataclass(frozen=True)
class Server:
    """A server that is a process id only; no process has it, so no processor time is known."""

    pid: int


@dataclass
class World:
    """What was sent where, and how long each server takes."""

    now_ms: float = 10.0
    before_ms: float = 10.0
    fails_at: frozenset[int] = frozenset()
    asked: list[tuple[str, str]] = field(default_factory=list)

    def send(self, server: TritonServer, request: GenerateRequest) -> RequestTimes:
        name = "now" if server.pid == NOW.pid else "before"
        self.asked.append((name, request.text))
        seconds = (self.now_ms if name == "now" else self.before_ms) / 1000
        error = "broke off" if len(self.asked) in self.fails_at else ""
        return RequestTimes(0.0, tuple(seconds * n for n in (1, 2, 3)), 3, error)

    def compare(self, **limits: Any) -> tuple[Pair, ...]:
        now, before = cast("TritonServer", NOW), cast("TritonServer", BEFORE)
        return compare_servers(now, before, REQUESTS, self.send, PairLimits(**limits))


# Larger than the kernel's largest process id (4,194,304).
NOW, BEFORE = Server(4_194_304 + os.getpid()), Server(8_388_608 + os.getpid())


def test_each_request_goes_to_both_and_in_both_orders() -> None:
    world = World()
    world.compare(least=12, most=12)
    pairs = [world.asked[at : at + 2] for at in range(0, len(world.asked), 2)]
    assert all(first[1] == second[1] for first, second in pairs)
    assert {(first[0], first[1]) for first, _ in pairs} == {
        (name, request.text) for name in ("now", "before") for request in REQUESTS
    }


def test_ratio_is_that_of_this_build_to_the_last() -> None:
    """Swapped, a build that is twice as slow would pass as one that is twice as fast."""
    (latency,) = [
        one
        for one in compare_pairs(World(now_ms=20.0).compare(), 10)
        if one.field == "request_latency_per_token_ms"
    ]
    assert (latency.before, latency.now) == (10.0, 20.0)
    assert latency.regressed


def test_precise_pairs_end_at_the_least_number() -> None:
    assert len(World().compare(least=8, most=100)) == 8


def test_pairs_end_at_the_most_and_at_the_time_limit() -> None:
    class Noisy(World):
        def send(self, server: TritonServer, request: GenerateRequest) -> RequestTimes:
            self.now_ms = 10.0 if len(self.asked) % 4 < 2 else 30.0
            return super().send(server, request)

    assert len(Noisy().compare(least=8, most=20)) == 20
    assert len(Noisy().compare(least=8, most=20, seconds=0)) == 1


def test_pair_with_a_failed_request_is_left_out() -> None:
    assert len(World(fails_at=frozenset({3})).compare(least=8, most=8)) == 7


def test_a_build_that_seems_slower_is_measured_longer() -> None:
    slower = World(now_ms=12.0)
    assert len(slower.compare(least=16, confirmed=40, most=100)) == 40


def test_a_stretch_of_other_load_does_not_refuse_an_equal_build() -> None:
    class Disturbed(World):
        def send(self, server: TritonServer, request: GenerateRequest) -> RequestTimes:
            self.now_ms = 13.0 if len(self.asked) < 40 else 10.0
            return super().send(server, request)

    pairs = Disturbed().compare()
    assert len(pairs) > 40
    assert not any(one.regressed for one in compare_pairs(pairs, 10))
