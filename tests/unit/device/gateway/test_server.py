"""The listening socket of the gateway and the server behind it."""

from __future__ import annotations

import socket

import httpx
import pytest
from starlette.applications import Starlette

from forge.device.gateway.connection_limits import ConnectionLimits
from forge.device.gateway.server import http_server, listen, serve_in_background
from forge.errors import UsageError


def test_the_port_is_listened_on_before_anything_is_started() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass  # the kernel answers though nobody accepts yet
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_is_not_this_machines_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen") as caught:
        listen(host, 0)
    assert caught.value.exit_code == 2
    assert caught.value.why
    assert "--port" in caught.value.hint


def test_the_socket_is_one_for_which_asyncio_turns_nagles_algorithm_off() -> None:
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_the_server_has_the_bounds_that_it_is_given() -> None:
    bounds = ConnectionLimits(most=7, idle_s=3)
    config = http_server(Starlette(), bounds).config
    assert (config.backlog, config.timeout_keep_alive) == (bounds.burst, 3)
    # A caller cannot name another address or server of its own, and no request is logged.
    assert (config.proxy_headers, config.server_header, config.access_log) == (False, False, False)


def test_requests_are_answered_during_the_body_and_not_after_it() -> None:
    listening = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with serve_in_background(listening, Starlette()):
        assert httpx.get(url, trust_env=False, timeout=10).status_code == 404
    assert listening.fileno() == -1
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False, timeout=10)


def test_an_error_of_the_body_stops_the_server_too() -> None:
    listening = listen("127.0.0.1", 0)
    with pytest.raises(ZeroDivisionError), serve_in_background(listening, Starlette()):
        raise ZeroDivisionError
    assert listening.fileno() == -1
