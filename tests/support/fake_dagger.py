"""A Dagger CLI and engine without containers: to end, to lose, and to count who comes."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
from pathlib import Path

PROGRAM = """
import http.server, json, sys, threading, time
answers = [json.dumps({"data": {"version": "v0.21.8"}}).encode()]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if not answers:
            print("12:00:00 ERR asked", file=sys.stderr, flush=True)
            AFTER
        body = answers.pop()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"port": server.server_port, "session_token": "x"}), flush=True)
threading.Event().wait()
"""
HANGS, DIES = "threading.Event().wait()", "import os; os._exit(1)"


def write_cli(folder: Path, after: str = HANGS) -> str:
    """Write a CLI whose session answers its version once; return its path.

    It does not end when its input is closed, as the CLI does while it asks a lost engine.

    Args:
        folder: where to write it.
        after: what it does on the next query.
    """
    (folder / "session.py").write_text(PROGRAM.replace("AFTER", after))
    path = folder / "dagger"
    arguments = shlex.join([sys.executable, str(folder / "session.py")])
    path.write_text(f"#!/bin/sh\nexec {arguments}\n")
    path.chmod(0o755)
    return str(path)


class FakeEngine:
    """A unix socket that accepts connections, closes them, and counts them."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.contacts = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.contacts += 1
            connection.close()

    def close(self) -> None:
        """Lose the engine: nothing accepts connections any more."""
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._thread.join()
