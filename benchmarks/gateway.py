"""What the gateway adds to Triton: first token, whole answer and throughput beside asking directly.

    .venv/bin/python benchmarks/gateway.py --write docs/results/gateway.md

A real Triton serves each model in turn, the gateway runs in a process of its own, and both are
asked by the same bare client. Rounds of the ways alternate, so that a machine that slows down slows
all of them. Run it from the project's folder on an idle machine; about four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import describe

from tests.support.gateway import GatewayProcess
from tests.support.plain_model import plain_tree
from tests.support.serving import running, tree

PROMPT = "Tell a story about a ship."
HEAD = (
    "| sessions | asked | first token p50, ms | p99 | whole answer p50, ms | p99 | tokens/s "
    "| gateway's CPU, µs a token |"
)
END = b"0\r\n\r\n"  # of a chunked body


@dataclass(frozen=True)
class Case:
    """A model and how it is asked.

    Attributes:
        places: requests that the gateway lets in at once.
        requests: of each session in a round.
        think_s: a session waits up to so long before each request, by chance but the same for all
            ways: people do not ask in the same millisecond.
    """

    name: str
    prompt: str
    max_tokens: int
    places: int
    sessions: tuple[int, ...]
    requests: int
    tree: str = "plain"
    think_s: float = 0.0


AT_ONCE = json.dumps({"words": 32})
PACED = json.dumps({"words": 32, "pause_s": 0.03})
CASES = (
    Case("A model without computation, 32 tokens at once", AT_ONCE, 32, 64, (1, 8, 64), 10),
    Case(
        "A model without computation, 32 tokens at 33/s", PACED, 32, 64, (1, 8, 64), 4, think_s=1.0
    ),
    Case("SmolLM2-135M, 32 tokens", PROMPT, 32, 4, (1, 2, 4), 5, "llm"),
)


@dataclass(frozen=True)
class Way:
    """One of the ways to ask; `mark` stands where the text of the first token begins."""

    name: str
    url: str
    body: Mapping[str, object]
    mark: bytes

    def request(self) -> bytes:
        """The bytes to send."""
        parts, body = urlsplit(self.url), json.dumps(self.body).encode()
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}"
        return f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body


@dataclass
class Measured:
    """Seconds of each request; of each round, the tokens that came in one second."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu_s: float = 0.0  # of the gateway
    tokens: int = 0

    def rate(self) -> float:
        """Output tokens in a second, the middle of the rounds."""
        return statistics.median(self.rates)


class Connection:
    """A client that does as little as it can, so that the servers have the machine."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def open(self) -> None:
        """Connect."""
        address = self._address
        self._reader, self._writer = await asyncio.open_connection(address.hostname, address.port)

    async def ask(self, request: bytes, mark: bytes) -> tuple[float, float]:
        """Seconds to the first token and to the end."""
        began, first, seen = time.perf_counter(), 0.0, b""
        self._writer.write(request)
        while not seen.endswith(END):
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError(f"cut off after: {seen[-300:]!r}")
            seen += data
            if not first and _at_text(seen, mark):
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
        if not seen.startswith(b"HTTP/1.1 200") or b'"error"' in seen or not first:
            raise ValueError(f"not an answer: {seen[:300]!r}")
        return first, whole

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def _at_text(seen: bytes, mark: bytes) -> bool:
    place = seen.find(mark)
    while place >= 0:
        if seen[place + len(mark) : place + len(mark) + 1] not in {b"", b'"'}:
            return True
        place = seen.find(mark, place + 1)
    return False


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each way at each concurrency")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--write", type=Path, help="write the tables there as Markdown")
    arguments = parser.parse_args()
    loads = [os.getloadavg()[0]]
    tables = []
    for case in CASES:
        if arguments.only in case.name:
            tables.append(_measure(case, arguments.rounds))
            print(tables[-1], flush=True)
            loads.append(os.getloadavg()[0])
    if arguments.write:
        arguments.write.write_text(_report(tables, loads[0]), encoding="utf-8")
    return 0


def _measure(case: Case, rounds: int) -> str:
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = tree(folder / "tree") if case.tree == "llm" else plain_tree(folder / "tree")
        with (
            running(made, folder / "work") as server,
            GatewayProcess.running(server.url, case.places) as gateway,
        ):
            ways = _ways(case, server.url, gateway.url)
            for way in ways:
                asyncio.run(_round(way, 2, case, Measured()))  # warm
            for sessions in case.sessions:
                rows += _compare(ways, sessions, case, rounds, gateway)
    return "\n".join((f"### {case.name}", "", HEAD, "|---|---|---|---|---|---|---|---|", *rows, ""))


def _ways(case: Case, triton: str, gateway: str) -> tuple[Way, ...]:
    direct = {"text_input": case.prompt, "max_tokens": case.max_tokens, "temperature": 0}
    through = {"prompt": case.prompt, "max_tokens": case.max_tokens, "stream": True}
    chat = {
        "model": "llm",
        "messages": [{"role": "user", "content": case.prompt}],
        "max_tokens": case.max_tokens,
        "stream": True,
    }
    return (
        Way("Triton", f"{triton}/v2/models/llm/generate_stream", direct, b'"text_output":"'),
        Way("/v1/inference", f"{gateway}/v1/inference", through, b'{"text":"'),
        Way("/v1/chat/completions", f"{gateway}/v1/chat/completions", chat, b'"content":"'),
    )


def _compare(
    ways: Sequence[Way], sessions: int, case: Case, rounds: int, gateway: GatewayProcess
) -> list[str]:
    measured = [Measured() for _ in ways]
    for _ in range(rounds):
        for way, into in zip(ways, measured, strict=True):
            before = gateway.cpu_s()
            asyncio.run(_round(way, sessions, case, into))
            if way is not ways[0]:
                into.cpu_s += gateway.cpu_s() - before
    direct, *through = measured
    rows = [_row(sessions, ways[0].name, direct)]
    for way, one in zip(ways[1:], through, strict=True):
        rows += [_row(sessions, way.name, one), _added(sessions, direct, one)]
    return rows


async def _round(way: Way, sessions: int, case: Case, into: Measured) -> None:
    connections = [Connection(way.url) for _ in range(sessions)]
    for connection in connections:
        await connection.open()
    began = time.perf_counter()
    work = (_session(one, way, case, seed, into) for seed, one in enumerate(connections))
    tokens = sessions * case.requests * case.max_tokens
    await asyncio.gather(*work)
    into.tokens += tokens
    into.rates.append(tokens / (time.perf_counter() - began))
    for connection in connections:
        connection.close()


async def _session(connection: Connection, way: Way, case: Case, seed: int, into: Measured) -> None:
    request, chance = way.request(), random.Random(seed)  # noqa: S311 - no key
    for _ in range(case.requests):
        await asyncio.sleep(chance.uniform(0, case.think_s))
        first, whole = await connection.ask(request, way.mark)
        into.first.append(first)
        into.whole.append(whole)


def _quantile(seconds: Sequence[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


def _row(sessions: int, name: str, one: Measured) -> str:
    numbers = " | ".join(
        f"{1000 * _quantile(values, part):.1f}"
        for values in (one.first, one.whole)
        for part in (50, 99)
    )
    cpu = f"{1e6 * one.cpu_s / one.tokens:.0f}" if one.cpu_s else ""
    return f"| {sessions} | {name} | {numbers} | {one.rate():.0f} | {cpu} |"


def _added(sessions: int, direct: Measured, one: Measured) -> str:
    added = " | ".join(
        f"**{1000 * (_quantile(mine, part) - _quantile(theirs, part)):+.1f}**"
        for mine, theirs in ((one.first, direct.first), (one.whole, direct.whole))
        for part in (50, 99)
    )
    return f"| {sessions} | added | {added} | **{100 * one.rate() / direct.rate():.1f} %** | |"


def _report(tables: Sequence[str], load: float) -> str:
    body = "\n".join(tables)
    return f"""# The gateway compared with Triton alone

`.venv/bin/python benchmarks/gateway.py` on {describe()}; the machine's load before: {load:.1f}.
The bare client, the gateway and Triton share the cores. Goals: first token p50 at most 1 ms more at
1 and 8 sessions and 2 ms at 64, p99 20 ms; 98 % of the throughput; 50 µs of CPU a token. "At once"
sends the next request as soon as an answer has ended, in all sessions: it shows the cost of the
gateway alone. At 33/s each session waits up to 1 s before it asks, as independent clients do.

{body}"""


if __name__ == "__main__":
    raise SystemExit(main())
