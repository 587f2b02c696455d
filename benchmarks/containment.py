"""Start of a slot and first token, with and without containment, in turn on the same machine.

    .venv/bin/python benchmarks/containment.py [ROUNDS]

Prints one JSON line a start, then the medians as Markdown. The real Triton and SmolLM2-135M.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from forge.serving.repository.spec import read_spec
from forge.serving.triton.client import stream
from forge.serving.triton.connector import connector
from forge.serving.triton.containment import OFF, available
from forge.serving.triton.httpx_transport import triton_client
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer
from tests.support.serving import READY_S, tree, triton

_REQUESTS = 40
_CONNECTIONS = 200


def main() -> int:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, list[dict[str, float]]] = {"all": [], "": []}
    with tempfile.TemporaryDirectory() as folder:
        made = tree(Path(folder) / "tree")
        available()  # asked once for each agent, not for each start
        for number in range(rounds):
            for off in ("all", "") if number % 2 else ("", "all"):
                os.environ[OFF] = off
                figures = measured(made, Path(folder) / f"work-{off or 'contained'}")
                found[off].append(figures)
                sys.stdout.write(json.dumps({"off": off, **figures}) + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"\ncontained: {', '.join(available({}).in_force)}\n\n")
    sys.stdout.write(f"| median of {rounds} | without | contained |\n|---|---|---|\n")
    for name in found[""][0]:
        plain, contained = (
            statistics.median(one[name] for one in found[off]) for off in ("all", "")
        )
        sys.stdout.write(f"| {name} | {plain:.4g} | {contained:.4g} |\n")
    return 0


def measured(made: Path, work: Path) -> dict[str, float]:
    """Start a server, ask it, stop it."""
    begun = time.monotonic()
    with TritonServer.start(made, read_spec(made), triton(), work=work) as server:
        server.wait_ready(READY_S)
        ready = time.monotonic() - begun
        first = []
        with triton_client() as client:
            for _ in range(_REQUESTS):
                sent = time.monotonic()
                events = stream(server.url, "llm", GenerateRequest("Hi", 1), client=client)
                next(events)
                first.append(1000 * (time.monotonic() - sent))
                list(events)
        place = urlsplit(server.url)
        connecting = []
        for _ in range(_CONNECTIONS):
            sent = time.monotonic()
            connector(place.hostname or "", place.port or 80).connect(5).close()
            connecting.append(1000 * (time.monotonic() - sent))
    return {
        "start, s": ready,
        "first token p50, ms": statistics.median(first),
        "new connection p50, ms": statistics.median(connecting),
    }


if __name__ == "__main__":
    sys.exit(main())
