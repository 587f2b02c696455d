"""Requests keep the server they entered."""

from __future__ import annotations

import threading

from forge.device.live import Live
from tests.support.gateway import serving_at

OLD, NEW = serving_at("http://127.0.0.1:1", "1.0.0"), serving_at("http://127.0.0.1:2", "1.1.0")


def test_nothing_is_entered_while_nothing_serves() -> None:
    live = Live()
    assert live.enter() is None
    assert live.under_way == 0


def test_a_request_ends_where_it_began_and_is_counted_as_left_behind_until_then() -> None:
    live = Live()
    live.set(OLD)
    entered = live.enter()
    assert entered == OLD
    assert live.behind == 0
    live.set(NEW)
    assert live.enter() == NEW
    assert (live.behind, live.under_way) == (1, 2)
    live.leave(entered)
    assert (live.behind, live.under_way) == (0, 1)


def test_nothing_new_is_behind_when_nothing_serves_but_what_was_there() -> None:
    live = Live()
    live.set(OLD)
    live.enter()
    live.clear("1.1.0 is being activated")
    assert (live.behind, live.enter()) == (1, None)


def test_drain_waits_for_the_last_request() -> None:
    live = Live()
    live.set(OLD)
    live.enter()
    live.clear("1.1.0 is being activated")
    assert live.drain(0.0) == 1
    threading.Timer(0.05, live.leave, [OLD]).start()
    assert live.drain(10.0) == 0
