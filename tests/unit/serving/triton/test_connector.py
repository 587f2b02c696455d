"""Connections over TCP, and out of a namespace by passed descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import forge.serving.triton.connector as connector_module
from forge.serving.triton.connector import NamespaceConnector, TcpConnector, connector, get

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@contextmanager
def server() -> Iterator[int]:
    """An HTTP server of one answer for each connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connected, _ = listening.accept()
                except OSError:
                    return
                with connected:
                    connected.recv(4096)
                    connected.sendall(ANSWER)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def sandbox(answer: Callable[[socket.socket, int], None]) -> Iterator[str]:
    """A stand-in for sandbox.py: calls `answer` with the caller and the port it wants."""
    name = f"forge-test-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    caller, _ = listening.accept()
                except OSError:
                    return
                with caller:
                    answer(caller, int.from_bytes(caller.recv(2), "little"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield name
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def passes(caller: socket.socket, port: int) -> None:
    """Connect to the port and send the socket."""
    with socket.create_connection(("127.0.0.1", port)) as connected:
        socket.send_fds(caller, [b"\0"], [connected.fileno()])


def test_the_host_says_how_a_server_is_reached() -> None:
    host = NamespaceConnector.host("forge-1f")
    assert connector(host, 8000) == NamespaceConnector("forge-1f", 8000)
    assert connector("127.0.0.1", 8000) == TcpConnector("127.0.0.1", 8000)
    assert connector("forge-1f.netns.invalid.example", 1) == TcpConnector(
        "forge-1f.netns.invalid.example", 1
    )


def test_a_passed_socket_is_connected_to_the_wanted_port() -> None:
    with server() as port, sandbox(passes) as name:
        with get(f"http://{NamespaceConnector.host(name)}:{port}/v2", 5) as response:
            assert (response.status, response.read()) == (200, b"ok")
        connected = NamespaceConnector(name, port).connect(3)
        with connected:
            assert connected.getpeername() == ("127.0.0.1", port)
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connected.gettimeout() == 3


def test_a_loop_gets_a_socket_that_does_not_block() -> None:
    with server() as port, sandbox(passes) as name:
        for one in (NamespaceConnector(name, port), TcpConnector("127.0.0.1", port)):
            with asyncio.run(one.connect_async()) as connected:
                assert not connected.getblocking()
                assert connected.getpeername() == ("127.0.0.1", port)


def test_the_error_of_the_inside_is_raised() -> None:
    def refuse(caller: socket.socket, _port: int) -> None:
        caller.sendall(bytes([111]))

    with sandbox(refuse) as name:
        with pytest.raises(ConnectionRefusedError):
            NamespaceConnector(name, 8000).connect(5)
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(NamespaceConnector(name, 8000).connect_async())


@pytest.mark.parametrize("said", [b"", b"\0"])
def test_an_answer_without_a_socket_is_an_error(said: bytes) -> None:
    with (
        sandbox(lambda caller, _: caller.sendall(said)) as name,
        pytest.raises(OSError, match=r"did not answer|open files"),
    ):
        NamespaceConnector(name, 8000).connect(5)


def test_a_passed_file_that_is_no_socket_is_an_error() -> None:
    def file(caller: socket.socket, _port: int) -> None:
        with open("/dev/null", "rb") as opened:  # noqa: PTH123
            socket.send_fds(caller, [b"\0"], [opened.fileno()])

    with sandbox(file) as name, pytest.raises(OSError, match="socket"):
        NamespaceConnector(name, 8000).connect(5)


def test_a_sandbox_that_ended_refuses_the_connection() -> None:
    name = f"forge-test-{os.urandom(8).hex()}"
    with pytest.raises(ConnectionRefusedError):
        NamespaceConnector(name, 8000).connect(5)
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(NamespaceConnector(name, 8000).connect_async())


def test_a_program_that_is_started_meanwhile_does_not_inherit_a_passed_socket() -> None:
    with server() as port, sandbox(passes) as name:
        connector = NamespaceConnector(name, port)
        for connected in (connector.connect(3), asyncio.run(connector.connect_async())):
            with connected:
                assert not connected.get_inheritable()


@contextmanager
def full(name: str) -> Iterator[socket.socket]:
    """A listening socket whose queue has no room; yields it."""
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as waiting:
        listening.bind(f"\0{name}")
        listening.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(f"\0{name}")
        yield listening


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_a_full_queue_of_callers_is_waited_for(kind: str) -> None:
    name = f"forge-test-{os.urandom(8).hex()}"
    tried = threading.Event()

    class Noted(socket.socket):
        def connect(self, address: object) -> None:
            try:
                super().connect(address)  # type: ignore[arg-type]
            finally:
                tried.set()

    with server() as port, full(name) as listening, pytest.MonkeyPatch.context() as patch:

        def serve_last() -> None:
            tried.wait(30)
            for _ in range(100):
                caller, _ = listening.accept()
                with caller, contextlib.suppress(TimeoutError):
                    caller.settimeout(0.2)  # the others ask for nothing
                    passes(caller, int.from_bytes(caller.recv(2), "little"))
                    return

        thread = threading.Thread(target=serve_last, daemon=True)
        thread.start()
        patch.setattr(socket, "socket", Noted)
        connector = NamespaceConnector(name, port)
        connected = (
            connector.connect(30) if kind == "blocking" else asyncio.run(connector.connect_async())
        )
        with connected:
            assert connected.getpeername() == ("127.0.0.1", port)
        thread.join()


def test_a_queue_that_stays_full_is_an_error_and_not_another_users_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connector_module, "_FULL_S", 0.05)
    name = f"forge-test-{os.urandom(8).hex()}"
    with full(name):
        with pytest.raises(TimeoutError, match="too many callers"):
            NamespaceConnector(name, 8000).connect(0.05)
        with pytest.raises(TimeoutError, match="too many callers"):
            asyncio.run(NamespaceConnector(name, 8000).connect_async())
