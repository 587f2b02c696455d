"""httpx over the connections of `connector`."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from forge.serving.triton.connector import NamespaceConnector
from forge.serving.triton.httpx_transport import triton_client


def test_a_server_in_a_namespace_that_ended_is_a_connection_error() -> None:
    url = f"http://{NamespaceConnector.host('forge-test-of-nobody')}:8000/"
    with triton_client() as client, pytest.raises(httpx.ConnectError):
        client.get(url)


def test_a_silent_server_is_a_read_timeout_and_a_closed_one_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, triton_client() as client:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(httpx.ReadTimeout):
            client.get(url, timeout=httpx.Timeout(5, read=0.05))
        connected, _ = listening.accept()
        connected.close()


def test_a_connection_is_kept_and_one_that_the_server_closed_is_replaced() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    served: list[int] = []  # the connection of each request

    def serve() -> None:
        for number in range(2):
            connected, _ = listening.accept()
            with connected:
                for _ in range(2):
                    connected.recv(4096)
                    served.append(number)
                    connected.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening, triton_client() as client:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread = threading.Thread(target=serve)
        thread.start()
        for _ in range(4):
            assert client.get(url).status_code == 200
        thread.join()
    assert served == [0, 0, 1, 1]
