"""Clients that hang up before their first token, and what is in the model then.

The model computes one prompt at a time in a real HTTP server: tests/support/stepping_triton.py.
"""

from __future__ import annotations

import logging
import socket
import time

import pytest

from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.triton_backend import TritonBackend
from tests.support.stepping_gateway import request, served, wait_for
from tests.support.stepping_triton import SteppingTriton

PREFILL_S = 1.0  # longer than a busy machine takes to send and close a few requests


@pytest.mark.parametrize("places", [16, 4])
@pytest.mark.parametrize("stream", [True, False])
def test_the_next_caller_waits_for_the_prompt_under_way_only(places: int, *, stream: bool) -> None:
    triton = SteppingTriton(PREFILL_S)
    with served(triton, places) as gateway:
        for number in range(16):
            connection = gateway.send(f"gone {number}", stream=stream)
            time.sleep(0.01)
            connection.close()
        status, _ = gateway.ask()
        wait_for(lambda: not triton.inside)
    assert status == 200
    # The next caller waited for these prompts, and its own.
    assert len([text for text in triton.computed if text.startswith("gone")]) <= 2
    assert triton.peak <= places


def test_a_request_that_waits_in_the_queue_is_forgotten_with_its_client() -> None:
    triton = SteppingTriton(PREFILL_S)
    with served(triton, places=1) as gateway:
        with gateway.send("inside"):
            wait_for(lambda: len(triton.inside) == 1)
            for number in range(5):
                gateway.send(f"gone {number}").close()
            assert gateway.ask()[0] == 200
        assert triton.computed == ["inside", "next"]
        assert gateway.admission.counts.waiting == 0


def test_what_is_in_the_model_is_counted_and_keeps_its_place_until_it_ends() -> None:
    triton = SteppingTriton(PREFILL_S)
    with served(triton, places=2) as gateway:
        connections = [gateway.send(f"gone {number}") for number in range(2)]
        wait_for(lambda: len(triton.inside) == 2)
        for connection in connections:
            connection.close()
        time.sleep(0.05)  # less than the first prompt takes
        assert len(triton.inside) == gateway.upstream.under_way == 2
        wait_for(lambda: not triton.inside)
        wait_for(lambda: gateway.upstream.under_way == 0)
    # One end for each: what was begun ends after its step, the other is never computed.
    assert triton.computed == ["gone 0"]
    assert sorted(triton.ended) == [("gone 0", "cancelled"), ("gone 1", "cancelled")]


def test_connections_to_triton_are_kept_after_a_cancel() -> None:
    triton = SteppingTriton(0.02)
    with served(triton, places=2) as gateway:
        for number in range(10):
            with gateway.send(f"gone {number}"):
                wait_for(lambda: len(triton.inside) == 1)
            wait_for(lambda: not triton.inside and gateway.upstream.under_way == 0)
        assert triton.connections <= 3  # of requests, of cancels, of the metadata


def test_a_model_that_cannot_be_told_keeps_its_place_until_it_answers() -> None:
    """A bundle of before: its model learns of a closed connection with its first response."""
    triton = SteppingTriton(PREFILL_S, words=1000, pause_s=0.01, can_cancel=False)
    with served(triton, places=2) as gateway:
        for number in range(4):
            connection = gateway.send(f"gone {number}", tokens=1000)
            wait_for(lambda: bool(triton.inside))
            connection.close()
        assert gateway.ask()[0] == 200
        wait_for(lambda: not triton.inside)
        wait_for(lambda: gateway.upstream.under_way == 0)
    # The model notices a closed connection a moment after the gateway closed it.
    assert triton.peak <= 3
    assert {reason for text, reason in triton.ended if text != "next"} == {"gone"}


def test_a_cancel_that_was_lost_is_sent_again() -> None:
    triton = SteppingTriton(0.05, words=100_000, pause_s=0.01, deaf_to=2)
    with served(triton, places=1) as gateway:
        with gateway.send("gone", tokens=1000):
            wait_for(lambda: triton.computed == ["gone"])
        assert gateway.ask()[0] == 200
    assert triton.ended[0] == ("gone", "cancelled")


def test_a_model_that_never_ends_is_cut_off_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    triton = SteppingTriton(0.1, words=1, ends=False)
    backend = TritonBackend(cancel_s=0.5)
    with caplog.at_level(logging.WARNING), served(triton, 1, backend) as gateway:
        connection = gateway.send("gone")
        wait_for(lambda: len(triton.inside) == 1)
        connection.close()
        status, seconds = gateway.ask()
        assert status == 200
        assert seconds > 0.4
        assert gateway.metrics()["forge_device_unended_requests_total"] == 1
        wait_for(lambda: ("gone", "gone") in triton.ended)  # the connection was closed
    assert "did not end request" in caplog.text


def test_an_answer_beyond_its_time_ends_in_the_model_too() -> None:
    triton = SteppingTriton(words=100_000, pause_s=0.01)
    with served(triton, places=1, config=GatewayConfig(limit_s=0.3)) as gateway:
        connection = gateway.send("late", tokens=1000)
        wait_for(lambda: triton.ended == [("late", "cancelled")])
        assert gateway.ask()[0] == 200
        connection.close()


def test_a_drain_waits_for_what_is_in_the_model_and_ends() -> None:
    """A swap may stop the server only when nothing is computed there any more."""
    triton = SteppingTriton(PREFILL_S)
    with served(triton) as gateway:
        connection = gateway.send("gone")
        wait_for(lambda: len(triton.inside) == 1)
        connection.close()
        gateway.upstream.clear("another version is being activated")
        assert gateway.upstream.drain(10) == 0
        assert not triton.inside


@pytest.mark.parametrize("how", ["closed", "reset", "half-closed", "pipelined"])
def test_every_way_to_hang_up_leaves_the_queue(how: str) -> None:
    triton = SteppingTriton(3.0)
    with served(triton, places=1) as gateway, gateway.send("inside"):
        wait_for(lambda: len(triton.inside) == 1)
        connection = gateway.send("gone")
        wait_for(lambda: gateway.admission.counts.waiting == 1)
        if how == "pipelined":  # reading is paused then, so the end of the stream is not read
            connection.sendall(request("second"))
            time.sleep(0.1)
        if how == "half-closed":
            connection.shutdown(socket.SHUT_WR)
        if how == "reset":
            linger = (1).to_bytes(4, "little") + bytes(4)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how != "half-closed":
            connection.close()
        wait_for(lambda: gateway.admission.counts.waiting == 0)
        assert triton.computed == []  # the first is still being computed
        connection.close()
