"""A real HTTP server where Triton would be: it counts how many requests are in it at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["CountingTriton"]


class CountingTriton:
    """Answers `generate_stream` word by word, each request in `words * pause_s` seconds."""

    def __init__(self, words: int = 5, pause_s: float = 0.02) -> None:
        self.words = words
        self.pause_s = pause_s
        self._lock = threading.Lock()
        self._inside = self._peak = self._arrived = 0

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve; gives the URL."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.counting = self
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request is inside."""
        with self._lock:
            self._arrived += 1
            self._inside += 1
            self._peak = max(self._peak, self._inside)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def since_last(self) -> tuple[int, int]:
        """Most at once, and how many arrived, since the last call."""
        with self._lock:
            seen = self._peak, self._arrived
            self._peak, self._arrived = self._inside, 0
            return seen


class _Server(ThreadingHTTPServer):
    counting: CountingTriton
    request_queue_size = 128
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        counting = self.server.counting
        self.rfile.read(int(self.headers["Content-Length"]))
        with counting.request():
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for _ in range(counting.words):
                self._say({"text_output": "word "})
                time.sleep(counting.pause_s)
        # Counted out before the end is said: the gateway may send the next one from then on.
        counts = {"input_tokens": 1, "output_tokens": counting.words}
        self._say({"text_output": "", "finish_reason": "stop", **counts})

    def _say(self, event: Mapping[str, str | int]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass
