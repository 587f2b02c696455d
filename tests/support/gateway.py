"""A gateway on a free port, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from forge.device.gateway.connection_limits import ConnectionLimits
from forge.device.gateway.server import http_server, listen
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.release import Release
from forge.device.shared.upstream import ActiveServer, Upstream

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["GatewayProcess", "listening", "serving_at"]

ROOT = Path(__file__).resolve().parents[2]
_DRAIN_S = 10


class Nothing(BaseModel):
    """Stands where the hardware report goes."""


def serving_at(url: str, version: str = "1.0.0", max_seq_len: int = 1024) -> ActiveServer:
    """A slot behind a Triton that runs there."""
    return ActiveServer(
        url=url,
        model="llm",
        slot="a",
        release=Release(name="llm", version=version, profile="development", manifest="0" * 64),
        triton="2.51.0",
        runtime={},
        default_max_tokens=16,
        max_seq_len=max_seq_len,
    )


@contextlib.contextmanager
def listening(app: ASGIApp, bounds: ConnectionLimits | None = None) -> Iterator[str]:
    """Serve an application from a thread; gives the URL."""
    with listen("127.0.0.1", 0) as bound:
        server = http_server(app, bounds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class GatewayProcess:
    """A gateway alone in its process, so that its memory and its time are its own."""

    process: subprocess.Popen[str]
    url: str

    @classmethod
    @contextlib.contextmanager
    def running(cls, behind: str, places: int) -> Iterator[GatewayProcess]:
        """Start one in front of the Triton at `behind`."""
        argv = [sys.executable, "-m", "tests.support.gateway", behind, str(places)]
        with subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                if process.stdout is None:
                    raise AssertionError("it was asked for")
                yield cls(process, process.stdout.readline().strip())
            finally:
                process.terminate()

    def tell(self, *words: str) -> str:
        """Have it do something and wait until it is done: `swap URL VERSION`, `limit N`."""
        if self.process.stdin is None or self.process.stdout is None:
            raise AssertionError("they were asked for")
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def main(behind: str, places: str) -> None:
    """Serve until the input ends."""
    from forge.device.gateway.app import create_app

    upstream, limit = Upstream(), ConcurrencyLimit(int(places), "as the test says")
    upstream.set(serving_at(behind))
    app = create_app(upstream, TritonBackend(), Nothing, limit)
    with listening(app) as url:
        print(url, flush=True)  # noqa: T201 - how the parent learns of it
        for line in sys.stdin:
            what, *words = json.loads(line)
            if what == "limit":
                limit.set(int(words[0]), "as the test says")
                said = "done"
            else:
                said = _swap(upstream, *words)
            print(said, flush=True)  # noqa: T201


def _swap(upstream: Upstream, url: str, version: str) -> str:
    """As the agent does it: nobody enters, those inside end, a pause, the other slot."""
    upstream.clear("another version is being activated")
    left = upstream.drain(_DRAIN_S)
    time.sleep(0.5)
    upstream.set(serving_at(url, version))
    return f"{left} left"


if __name__ == "__main__":
    main(*sys.argv[1:])
