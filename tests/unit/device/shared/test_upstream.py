"""Requests keep the server they entered."""

from __future__ import annotations

import threading

from forge.device.shared.upstream import Upstream
from tests.support.gateway import serving_at

OLD, NEW = serving_at("http://127.0.0.1:1", "1.0.0"), serving_at("http://127.0.0.1:2", "1.1.0")


def test_nothing_is_entered_while_nothing_serves() -> None:
    upstream = Upstream()
    assert upstream.enter() is None
    assert upstream.under_way == 0


def test_a_request_ends_where_it_began_and_is_counted_as_left_behind_until_then() -> None:
    upstream = Upstream()
    upstream.set(OLD)
    entered = upstream.enter()
    assert entered == OLD
    assert upstream.behind == 0
    upstream.set(NEW)
    assert upstream.enter() == NEW
    assert (upstream.behind, upstream.under_way) == (1, 2)
    upstream.leave(entered)
    assert (upstream.behind, upstream.under_way) == (0, 1)


def test_nothing_new_is_behind_when_nothing_serves_but_what_was_there() -> None:
    upstream = Upstream()
    upstream.set(OLD)
    upstream.enter()
    upstream.clear("1.1.0 is being activated")
    assert (upstream.behind, upstream.enter()) == (1, None)


def test_drain_waits_for_the_last_request() -> None:
    upstream = Upstream()
    upstream.set(OLD)
    upstream.enter()
    upstream.clear("1.1.0 is being activated")
    assert upstream.drain(0.0) == 1
    threading.Timer(0.05, upstream.leave, [OLD]).start()
    assert upstream.drain(10.0) == 0
