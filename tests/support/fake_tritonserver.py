"""A stand-in for `tritonserver` that loads, answers, fails and hangs as engine/answer.json says.

It takes Triton's command line, writes log lines of Triton's form, has a second process as Triton
has one for its Python model, and speaks the part of Triton's HTTP API that Forge uses.
tests/e2e/test_fake_triton.py compares it with the real server. Only the standard library: it runs
from a wheel in an environment of its own (tests/support/fake_triton.py).
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

VERSION = "2.51.0"
INPUTS = ("text_input", "max_tokens", "temperature")
CANCEL_INPUTS = ("input_format", "request_id")  # with which answer.json's `cancels` is true


def main() -> int:
    """Serve the one model of the repository until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-repository", type=Path)
    parser.add_argument("--http-address")
    parser.add_argument("--http-port", type=int)
    parser.add_argument("--metrics-port", type=int)
    options, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    name = next(options.model_repository.iterdir()).name
    stub = subprocess.Popen(["triton_python_backend_stub", "1000000"], executable="/bin/sleep")
    try:
        model = Model(options.model_repository / name / "1")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        stub.kill()
        reason = f"Internal: {type(error).__name__}: {error}"
        log("E", "model_lifecycle.cc:654", f"failed to load '{name}' version 1: {reason}")
        log("I", "server.cc:676", "error: creating server: Internal - failed to load all models")
        return 1
    try:
        server = Server((options.http_address, options.http_port), name, model, stub)
        metrics = socket.create_server((options.http_address, options.metrics_port))
    except OSError as error:
        stub.kill()
        text = f"failed to start HTTP service: Unavailable - Socket '{options.http_address}:"
        log("E", "main.cc:397", f"{text}{options.http_port}' already in use ({error})")
        return 1
    log("I", "http_server.cc:4692", f"Started HTTPService at {options.http_address}")
    with metrics, server:
        server.serve_forever(poll_interval=0.05)
    return 0


def log(level: str, place: str, text: str) -> None:
    """Write a line as Triton does."""
    line = text.replace("\n", "\\n")
    sys.stderr.write(f'{level}1124 04:18:00.123456 {1234} {place}] "{line}"\n')
    sys.stderr.flush()


class Model:
    """What the model of tests/support/device_world.py does."""

    def __init__(self, folder: Path) -> None:
        self.answer: dict[str, Any] = json.loads((folder / "engine" / "answer.json").read_text())
        time.sleep(self.answer["load_s"])
        if self.answer["fails"]:
            raise RuntimeError("the engine does not load")
        self.cancels = bool(self.answer.get("cancels"))
        self.inputs = (*INPUTS, *(CANCEL_INPUTS if self.cancels else ()))
        self.running: dict[str, threading.Event] = {}  # set when the request is cancelled

    def ask(self, body: dict[str, Any], send: Any) -> None:
        """Answer one request: a prompt, or the cancel of another request."""
        prompt, identity = str(body["text_input"]), str(body.get("request_id", ""))
        counts = {"output_tokens": 0, "input_tokens": 0}
        if self.cancels and body.get("input_format") == "cancel":
            if prompt in self.running:
                self.running[prompt].set()
            send({"text_output": "", **counts, "finish_reason": "cancelled"})
            return
        cancelled = threading.Event()
        if self.cancels and identity:
            self.running[identity] = cancelled
        try:
            self.say(prompt, send, cancelled)
        finally:
            self.running.pop(identity, None)

    def say(self, prompt: str, send: Any, cancelled: threading.Event) -> None:
        """Compute the prompt, then send one event for each word until the client is gone."""
        name = prompt.replace("?", "").replace(" ", "-")[-40:]
        folder = Path(self.answer["log"]) if self.answer["log"] else None
        if folder:
            (folder / f"{name}.begun").touch()
        scores = self.answer["scores"] if prompt.startswith("[") else None
        words = [json.dumps(scores)] if scores else self.answer["words"].split(" ")
        said = 0
        time.sleep(self.answer.get("prefill_s", 0))
        for word in words:
            if cancelled.is_set():
                counts = {"output_tokens": said, "input_tokens": 1}
                send({"text_output": "", **counts, "finish_reason": "cancelled"})
                break
            said += 1
            if not send({"text_output": f"{word} "}):
                break
            time.sleep(self.answer["pause_s"])
        else:
            counts = {"output_tokens": said, "input_tokens": 1}
            send({"text_output": "", **counts, "finish_reason": "stop"})
            return
        if folder:
            done = folder / f"{name}.tmp"
            done.write_text(str(said))
            done.rename(done.with_suffix(""))


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], name: str, model: Model, stub: subprocess.Popen[bytes]
    ) -> None:
        self.name = name
        self.model = model
        self.stub = stub
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that the client cut."""


class Handler(BaseHTTPRequestHandler):
    """The part of Triton's HTTP API that Forge uses."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        model = f"/v2/models/{self.server.name}"
        if self.path == "/v2":
            self._json(200, {"name": "triton", "version": VERSION, "extensions": []})
        elif self.path == f"{model}/ready":
            self._json(200, None)
        elif self.path == model:
            names = self.server.model.inputs
            inputs = [{"name": name, "datatype": "BYTES", "shape": [-1, 1]} for name in names]
            self._json(200, {"name": self.server.name, "versions": ["1"], "inputs": inputs})
        else:
            self._json(404, {"error": f"Request for unknown model: {self.path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != f"/v2/models/{self.server.name}/generate_stream":
            self._json(404, {"error": f"Request for unknown model: {self.path}"})
            return
        if self.server.stub.poll() is not None:  # its model's process was killed
            message = "Stub process 'llm_0_0' is not healthy."
            self._json(500, {"error": message})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.model.ask(json.loads(body), self._event)
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, value: dict[str, Any]) -> bool:
        """Send one event; False when the client is gone."""
        head = {"model_name": self.server.name, "model_version": "1"}
        data = b"data: " + json.dumps(head | value).encode() + b"\n\n"
        if self.server.stub.poll() is not None or self._gone():
            self.close_connection = True
            return False
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            self.close_connection = True
            return False
        return True

    def _gone(self) -> bool:
        self.connection.setblocking(False)
        try:
            return len(self.connection.recv(1, socket.MSG_PEEK)) == 0
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.setblocking(True)

    def _json(self, status: int, value: Any) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Write nothing for each request, as Triton."""


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    sys.exit(main())
