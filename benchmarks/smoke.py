"""The smoke benchmark's figures beside those of a real AIPerf, against the same Triton.

    .venv/bin/python benchmarks/smoke.py --repository TREE --environment VENV --aiperf VENV \
        --tokenizer FOLDER [--rounds 5] [--keep FOLDER]

Both send the same prompts with the same number of tokens and requests in parallel, in turn, so that
a change of the machine's load meets both. AIPerf (benchmarks/aiperf/requirements.lock, in a virtual
environment of its own) reaches Triton's generate_stream by its endpoint type `template`. It counts
tokens with a tokenizer of Hugging Face's form, and not as the server does, so the prompts are those
whose answers are longer than the limit: then both count the same.

Prints a table of ours ÷ AIPerf's, and the same for AIPerf's own recorded times put into our
formulas, where no noise is between the two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe

from forge import environments
from forge.serving.repository.spec import read_spec
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer, started
from forge.smoke.benchmark import connected, measure, prompt_set
from forge.smoke.metrics import RequestTimes, RunTimes, level
from forge.smoke.result import Estimate, Level, RequestStatistics, Slo

MAX_TOKENS = 24
REQUESTS = 12
LONG_ANSWERS = (1, 7, 10, 13)  # prompts of the packaged set that are answered at length
METRICS = (
    "time_to_first_token",
    "inter_token_latency",
    "inter_chunk_latency",
    "request_latency",
    "output_token_throughput_per_user",
    "output_token_throughput",
    "request_throughput",
    "goodput",
)


@dataclass(frozen=True)
class Round:
    """One run of both: our figures, AIPerf's, and ours of AIPerf's times."""

    ours: dict[str, float]
    aiperf: dict[str, float]
    recomputed: dict[str, float]


def main() -> int:
    """Run all rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, help="rendered model repository")
    parser.add_argument("--environment", type=Path, required=True, help="environment with Triton")
    parser.add_argument("--aiperf", type=Path, required=True, help="environment with AIPerf")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ttft-ms", type=float, default=450, help="limit of goodput")
    parser.add_argument("--itl-ms", type=float, default=40, help="limit of goodput")
    parser.add_argument("--keep", type=Path, help="folder for AIPerf's files")
    arguments = parser.parse_args()
    sys.stdout.write(f"{describe()}\n\n")
    with tempfile.TemporaryDirectory(prefix="forge-smoke-aiperf-") as name:
        work = arguments.keep or Path(name)
        spec = read_spec(arguments.repository)
        installed = environments.inspect(arguments.environment)
        server, _ = started(
            lambda: TritonServer.start(arguments.repository, spec, installed, work=work / "triton"),
            spec.start_timeout_s,
        )
        with server:
            for concurrency in arguments.concurrency:
                rounds = list(_rounds(server, arguments, concurrency, work))
                sys.stdout.write(f"{_table(concurrency, rounds)}\n\n")
                sys.stdout.flush()
    return 0


def _rounds(
    server: TritonServer, arguments: argparse.Namespace, concurrency: int, work: Path
) -> Iterator[Round]:
    chosen = [prompt_set("default")[number] for number in LONG_ANSWERS]
    prompts = [chosen[number % len(chosen)] for number in range(REQUESTS)]
    requests = [GenerateRequest(prompt, MAX_TOKENS) for prompt in prompts]
    slo = Slo(ttft_ms=arguments.ttft_ms, itl_ms=arguments.itl_ms)
    for number in range(arguments.rounds):
        with connected(concurrency) as client:
            measure(server.url, server.spec.model, requests[:4], concurrency, client)
            times = measure(server.url, server.spec.model, requests, concurrency, client)
        folder = work / f"aiperf-{concurrency}-{number}"
        tool = AIPerf(arguments.aiperf, arguments.tokenizer, slo)
        tool.run(server.url, server.spec.model, prompts, concurrency, folder)
        sys.stderr.write(f"concurrency {concurrency}, round {number + 1}\n")
        yield Round(
            figures(level(concurrency, [RunTimes(times)], slo)),
            aggregated(folder),
            figures(level(concurrency, [RunTimes(recorded(folder))], slo)),
        )


@dataclass(frozen=True)
class AIPerf:
    """The real tool in its own environment, with a tokenizer to count by and limits of goodput."""

    environment: Path
    tokenizer: Path
    slo: Slo

    def run(
        self, url: str, model: str, prompts: Sequence[str], concurrency: int, folder: Path
    ) -> None:
        """Run it against a server. Raises CalledProcessError."""
        folder.mkdir(parents=True)
        inputs = folder / "prompts.jsonl"
        inputs.write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in prompts))
        goodput = (
            f"time_to_first_token:{self.slo.ttft_ms:g} inter_token_latency:{self.slo.itl_ms:g}"
        )
        argv = [
            str(self.environment / "bin" / "aiperf"), "profile",
            "--model", model,
            "--url", url,
            "--endpoint-type", "template",
            "--custom-endpoint", f"/v2/models/{model}/generate_stream",
            "--streaming",
            "--extra-inputs", json.dumps({
                "payload_template": '{"text_input": {{ text|tojson }}}',
                "response_field": "text_output",
                "max_tokens": MAX_TOKENS,
            }),
            "--input-file", str(inputs),
            "--custom-dataset-type", "single-turn",
            "--dataset-sampling-strategy", "sequential",
            "--tokenizer", str(self.tokenizer),
            "--concurrency", str(concurrency),
            "--request-count", str(len(prompts)),
            "--warmup-request-count", "4",
            "--goodput", goodput,
            "--workers-max", "1",
            "--record-processors", "1",
            "--no-server-metrics",
            "--no-gpu-telemetry",
            "--ui", "none",
            "--export-level", "raw",
            "--output-artifact-dir", str(folder),
        ]  # fmt: skip
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=600)
        (folder / "log").write_text(done.stdout + done.stderr)
        done.check_returncode()


def recorded(folder: Path) -> tuple[RequestTimes, ...]:
    """Return the times that AIPerf recorded of each counted request, with its count of tokens."""
    tokens = {}
    for line in (folder / "profile_export.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["metadata"]["benchmark_phase"] == "profiling":
            metric = record["metrics"]["output_sequence_length"]
            tokens[record["metadata"]["x_request_id"]] = int(metric["value"])
    found = []
    for line in (folder / "profile_export_raw.jsonl").read_text().splitlines():
        record = json.loads(line)
        request = record["metadata"]["x_request_id"]
        if request in tokens:
            found.append(_times(record, tokens[request]))
    return tuple(found)


def _times(record: Mapping[str, Any], tokens: int) -> RequestTimes:
    """AIPerf takes durations from one clock and the start of a request from the wall clock."""
    sent = record["metadata"]["request_start_ns"]
    shift = sent - record["start_perf_ns"]
    chunks = tuple(
        (response["perf_ns"] + shift) / 1e9
        for response in record["responses"]
        if _has_text(response)
    )
    return RequestTimes(sent / 1e9, chunks, tokens)


def _has_text(response: Mapping[str, Any]) -> bool:
    packets = response.get("packets", ())
    return any(
        json.loads(packet["value"]).get("text_output")
        for packet in packets
        if packet["name"] == "data"
    )


def aggregated(folder: Path) -> dict[str, float]:
    """Return AIPerf's mean of each metric."""
    document = json.loads((folder / "profile_export_aiperf.json").read_bytes())
    return {name: float(document[name]["avg"]) for name in METRICS if name in document}


def figures(found: Level) -> dict[str, float]:
    """Return the mean of each metric that a level has."""
    values = {name: _mean(getattr(found, name)) for name in METRICS}
    return {name: value for name, value in values.items() if value is not None}


def _mean(figure: RequestStatistics | Estimate | None) -> float | None:
    one = figure.avg if isinstance(figure, RequestStatistics) else figure
    return None if one is None else one.mean


def _table(concurrency: int, rounds: Sequence[Round]) -> str:
    lines = [
        f"Concurrency {concurrency}, {len(rounds)} rounds of {REQUESTS} requests, medians.",
        "",
        "| metric | ours | AIPerf | ours ÷ AIPerf (range) | AIPerf's times, our formulas |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in METRICS:
        counted = [one for one in rounds if name in one.ours and name in one.aiperf]
        if not counted:
            continue
        ratios = [one.ours[name] / one.aiperf[name] for one in counted if one.aiperf[name]]
        exact = [one.recomputed[name] / one.aiperf[name] for one in counted if one.aiperf[name]]
        if not ratios:
            continue
        lines.append(
            f"| {name} | {median(one.ours[name] for one in counted):.4g}"
            f" | {median(one.aiperf[name] for one in counted):.4g}"
            f" | {median(ratios) - 1:+.1%} ({min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%})"
            f" | {max(abs(ratio - 1) for ratio in exact):.3%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
