"""The smoke benchmark and a real AIPerf against a server whose times are known.

    PYTHONPATH=. .venv/bin/python benchmarks/aiperf.py --aiperf VENV [--rounds 6] [--keep FOLDER]

The server answers as Triton's generate_stream does, by the clock: the first token --ttft-s after a
request, and one each --itl-s, however busy the machine is. So both are held against what is true,
and not only against each other as in benchmarks/smoke.py, which needs a machine on which a model is
equally fast for minutes.

Both send the same prompts, one request at a time, in turn; who is first changes with each round.
AIPerf is installed from benchmarks/aiperf/requirements.lock into an environment of its own. Its
tokenizer is one that counts words, of which the server sends one in each chunk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from machine import describe
from smoke import MAX_TOKENS, METRICS, AIPerf, aggregated, figures, recorded

from forge.serving.triton.request import GenerateRequest
from forge.smoke.benchmark import connected, measure
from forge.smoke.metrics import RunTimes, level
from forge.smoke.result import Slo

MODEL = "llm"
LIMIT = 0.02  # the difference that is to be seen or excluded
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = "word"  # what the server sends in each chunk, with a blank


@dataclass(frozen=True)
class Pace:
    """What is true of every answer of the server: seconds to the first token and between two."""

    ttft_s: float
    itl_s: float

    def expected(self, name: str) -> float | None:
        """Return the true value of one of METRICS, in its unit; None: it depends on the client."""
        return {
            "time_to_first_token": 1000 * self.ttft_s,
            "inter_token_latency": 1000 * self.itl_s,
            "inter_chunk_latency": 1000 * self.itl_s,
            "request_latency": 1000 * (self.ttft_s + (MAX_TOKENS - 1) * self.itl_s),
            "output_token_throughput_per_user": 1 / self.itl_s,
        }.get(name)


@dataclass(frozen=True)
class Round:
    """One run of both: our figures, AIPerf's, and ours of AIPerf's recorded times."""

    ours: dict[str, float]
    aiperf: dict[str, float]
    recomputed: dict[str, float]


def main() -> int:
    """Run all rounds and print the table; 1 if a figure of ours differs by more than LIMIT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aiperf", type=Path, required=True, help="environment with AIPerf")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=6, help="of each in a round")
    parser.add_argument("--ttft-s", type=float, default=1.0)
    parser.add_argument("--itl-s", type=float, default=0.1)
    parser.add_argument("--keep", type=Path, help="folder for AIPerf's files")
    arguments = parser.parse_args()
    pace = Pace(arguments.ttft_s, arguments.itl_s)
    with tempfile.TemporaryDirectory(prefix="forge-aiperf-") as name:
        work = arguments.keep or Path(name)
        slo = Slo(ttft_ms=1050 * pace.ttft_s, itl_ms=1050 * pace.itl_s)
        tool = AIPerf(arguments.aiperf, write_tokenizer(work / "tokenizer"), slo)
        with served(pace) as url:
            rounds: list[Round] = []
            for number in range(arguments.rounds):
                folder = work / f"round-{number}"
                rounds.append(measured(url, tool, arguments.requests, folder, number % 2 == 1))
                sys.stderr.write(f"{json.dumps(asdict(rounds[-1]))}\n")
    sys.stdout.write(f"{describe()}\n\n{table(rounds, pace)}\n")
    return 0 if within(rounds) else 1


@contextlib.contextmanager
def served(pace: Pace) -> Iterator[str]:
    """Run the server as a process of its own; yield its URL."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=_serve, args=(pace, sender), daemon=True)
    child.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        child.terminate()
        child.join()


def _serve(pace: Pace, ready: Connection) -> None:
    """Serve until the process is ended; send the port."""

    async def run() -> None:
        server = await asyncio.start_server(lambda *one: _answer(pace, *one), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def _answer(pace: Pace, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            body = json.loads(await reader.readexactly(length))
            first, tokens = loop.time() + pace.ttft_s, int(body["max_tokens"])
            writer.write(HEAD)
            for number in range(tokens):
                await asyncio.sleep(first + number * pace.itl_s - loop.time())
                writer.write(_event(text_output=f"{WORD} "))
                await writer.drain()
            counts = {"input_tokens": 1, "output_tokens": tokens}
            writer.write(_event(text_output="", finish_reason="length", **counts) + b"0\r\n\r\n")
            await writer.drain()


def _event(**fields: object) -> bytes:
    """Return an event of generate_stream as a chunk of HTTP."""
    data = b"data: " + json.dumps({"model_name": MODEL, "model_version": "1"} | fields).encode()
    return b"%x\r\n%b\n\n\r\n" % (len(data) + 2, data)


def write_tokenizer(folder: Path) -> Path:
    """Write a tokenizer of Hugging Face's form that counts words."""
    folder.mkdir(parents=True, exist_ok=True)
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, WORD: 1}, "unk_token": "[UNK]"}
    document = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}}
    document |= {"model": model}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder


def measured(url: str, tool: AIPerf, requests: int, folder: Path, aiperf_first: bool) -> Round:  # noqa: FBT001
    """Return what both measure, each after the other."""
    prompts = [f"question {number}" for number in range(requests)]
    ours: list[RunTimes] = []

    def run_ours() -> None:
        given = [GenerateRequest(prompt, MAX_TOKENS) for prompt in prompts]
        with connected(1) as client:
            measure(url, MODEL, given[:1], 1, client)
            ours.append(RunTimes(measure(url, MODEL, given, 1, client)))

    def run_aiperf() -> None:
        tool.run(url, MODEL, prompts, 1, folder)

    order: list[Callable[[], None]] = [run_ours, run_aiperf]
    for run in reversed(order) if aiperf_first else order:
        run()
    again = [RunTimes(recorded(folder))]
    return Round(
        figures(level(1, ours, tool.slo)), aggregated(folder), figures(level(1, again, tool.slo))
    )


def ratios(rounds: Sequence[Round], name: str) -> list[float]:
    """Return ours ÷ AIPerf's of each round that has both."""
    return [one.ours[name] / one.aiperf[name] for one in rounds
            if name in one.ours and one.aiperf.get(name)]  # fmt: skip


def within(rounds: Sequence[Round]) -> bool:
    """Return whether the median ratio of every metric differs by at most LIMIT from 1."""
    return all(abs(median(ratios(rounds, name) or [1.0]) - 1) <= LIMIT for name in METRICS)


def table(rounds: Sequence[Round], pace: Pace) -> str:
    """Return the figures of all rounds beside each other, as Markdown."""
    lines = [
        f"{len(rounds)} rounds, {MAX_TOKENS} tokens an answer, one request at a time, medians.",
        "",
        "| metric | true | ours | AIPerf | ours ÷ AIPerf (range) | AIPerf's times, our formulas |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in METRICS:
        found = ratios(rounds, name)
        if not found:
            continue
        true = pace.expected(name)
        again = max(abs(one.recomputed[name] / one.aiperf[name] - 1) for one in rounds
                    if name in one.recomputed and one.aiperf.get(name))  # fmt: skip
        lines.append(
            f"| {name} | {'' if true is None else f'{true:.4g}'}"
            f" | {median(one.ours[name] for one in rounds if name in one.ours):.4g}"
            f" | {median(one.aiperf[name] for one in rounds if name in one.aiperf):.4g}"
            f" | {median(found) - 1:+.2%} ({min(found) - 1:+.2%} to {max(found) - 1:+.2%})"
            f" | {again:.3%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
