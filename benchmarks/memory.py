"""Memory that a served engine takes, beside what forge.memory computes of it.

    .venv/bin/python benchmarks/memory.py --engine FOLDER --environment VENV --checkpoint URL
        [--precision P] [--case 1x512 …] [--lock FILE] [--write FILE]

For each case BATCHxLENGTH the engine is rendered and served by a real Triton, and BATCH sequences of
LENGTH tokens are computed at the same time, so that every block of the KV cache is used. Read is the
proportional set size (PSS) of all processes of the server's session, its Python stub included, every
0.1 s; the largest sum counts. Anonymous: without files that are mapped into memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from forge import environments
from forge.serving.repository.render import Runtime, render
from forge.serving.repository.spec import RenderSettings
from forge.serving.sampling import Sampling
from forge.serving.triton.client import answer
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.server import TritonServer, started

TOKENS_A_STEP = 256  # of prompts: OpenVINO GenAI's max_num_batched_tokens
SETTINGS = {
    "serving": {
        "model": "llm", "server": "environment", "environment": "measured", "packages": "bundle",
        "image": None, "kv_cache_fraction": 0.3, "kv_cache_mib": None,
        "max_num_batched_tokens": None, "default_max_tokens": 16, "activation": "swap",
        "start_timeout_s": 600.0,
        "probe": {"ttft_ms_max": None, "output_tokens_per_s_min": None},
    },
    "smoke": {"golden": [{"prompt": "a", "expect": ["a"], "max_tokens": 4}]},
}  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """Sums over all processes, MiB."""

    pss: float
    anonymous: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--case", nargs="+", default=["1x512"])
    parser.add_argument("--provider", default="")
    parser.add_argument("--vocabulary", type=int, default=40000)
    a = parser.parse_args()
    for case in a.case:
        batch, length = map(int, case.split("x"))
        with tempfile.TemporaryDirectory(prefix="forge-memory-") as name:
            idle, full = measure(a, Path(name), batch, length)
        print(
            json.dumps(
                {
                    "batch": batch,
                    "length": length,
                    "idle": [round(idle.pss), round(idle.anonymous)],
                    "full": [round(full.pss), round(full.anonymous)],
                    "load": os.getloadavg()[0],
                }
            ),
            flush=True,
        )
    return 0


def measure(a, work: Path, batch: int, length: int) -> tuple[Memory, Memory]:
    generated = 16 + (batch - 1) * -(-length // TOKENS_A_STEP)
    settings = {
        **SETTINGS,
        "engine": {"max_batch_size": batch, "max_input_len": length - 1, "max_seq_len": length},
    }
    tree = work / "tree"
    spec = render(
        a.engine, RenderSettings.model_validate_json(json.dumps(settings)), Runtime(a.lock), tree
    )
    if a.provider:
        c = tree / "models/llm/config.pbtxt"
        c.write_text(c.read_text().replace("CUDAExecutionProvider", a.provider))
    installed = environments.inspect(a.environment)
    server, _ = started(
        lambda: TritonServer.start(tree, spec, installed, work=work / "triton"), 600
    )
    with server:
        time.sleep(2)
        idle = read(server.pid)
        with sampled(server.pid) as peak:
            rng = random.Random(1)
            requests = []
            for _ in range(batch):
                tokens = [rng.randrange(100, a.vocabulary) for _ in range(length - generated)]
                requests.append(
                    GenerateRequest(json.dumps(tokens), generated, Sampling(ignore_eos=True), "ids")
                )
            with ThreadPoolExecutor(batch) as pool:
                done = list(
                    pool.map(
                        lambda r: answer(
                            server.url,
                            "llm",
                            r,
                            timeouts=HttpTimeouts(first=3000, gap=600, total=3600),
                        ),
                        requests,
                    )
                )
    for d in done:
        sys.stderr.write(f"{d[1]}\n")
    return idle, peak[0]


@contextlib.contextmanager
def sampled(session: int) -> Iterator[list[Memory]]:
    peak = [read(session)]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            peak[0] = max(peak[0], read(session), key=lambda one: one.pss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def read(session: int) -> Memory:
    pss = anonymous = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            if os.getsid(int(entry.name)) != session:
                continue
            for line in (entry / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1])
                if line.startswith("Pss_Anon:"):
                    anonymous += int(line.split()[1])
    return Memory(pss / 1024, anonymous / 1024)


if __name__ == "__main__":
    sys.exit(main())
