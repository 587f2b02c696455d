"""Memory that a served engine takes, beside what forge.memory computes of it.

    .venv/bin/python benchmarks/memory.py --engine FOLDER --environment VENV --lock FILE \
        --shape p134515008.e… [--precision as-is] [--case 1x256 2x2048 …] [--write FILE]

For each case BATCHxLENGTH a real Triton serves the engine, and BATCH sequences of LENGTH tokens are
computed at the same time: the first waits until all are read, so every block of the KV cache is
used at once. Twice a second the memory of all processes of the server's session is added, its
Python stub and its supervisor included; the largest sum counts. Mapped files count once, as far as
they are in memory.

The engine of the demo is `.forge/trees/…` of a project that made it, its shape is in
pipelines/release.py, and the environment is one of dockerfiles/triton-openvino.
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

from machine import describe

from forge import environments, profiles
from forge.canonical import Json
from forge.memory import ServedMemory, parse_shape
from forge.memory.requirement import check_memory
from forge.profiles import Profile
from forge.serving.repository.render import Runtime, render
from forge.serving.repository.spec import RenderSettings
from forge.serving.sampling import Sampling
from forge.serving.triton.client import answer
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.server import TritonServer, started

ROOT = Path(__file__).resolve().parent.parent
TOKENS_A_STEP = 256  # of prompts: OpenVINO GenAI's max_num_batched_tokens
VOCABULARY = 40_000  # of the prompts; smaller than the model's
PATIENT = HttpTimeouts(first=3000, gap=600, total=3600)
PERIOD_S = 0.5


@dataclass(frozen=True)
class Memory:
    """Sums over all processes, MiB.

    Attributes:
        total: all pages.
        anonymous: those of no file.
    """

    total: float
    anonymous: float


@dataclass(frozen=True)
class Measured:
    """One case.

    Attributes:
        served: what was computed.
        idle: before the first request.
        full: the most, with all sequences.
    """

    served: ServedMemory
    idle: Memory
    full: Memory


def main() -> int:
    """Measure all cases and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, required=True, help="folder of a compiled engine")
    parser.add_argument("--environment", type=Path, required=True, help="environment with Triton")
    parser.add_argument("--lock", type=Path, required=True, help="what the environment is made of")
    parser.add_argument("--shape", required=True, help="as in a checkpoint's URL")
    parser.add_argument("--profile", default="development")
    parser.add_argument("--precision", default="as-is")
    parser.add_argument("--case", nargs="+", default=["1x256", "2x2048", "4x2048", "8x1024"])
    parser.add_argument("--write", type=Path, help="file for the table")
    arguments = parser.parse_args()
    found = []
    for case in arguments.case:
        batch, length = map(int, case.split("x"))
        profile = loaded(arguments, batch, length)
        served = check_memory(profile, parse_shape(arguments.shape))
        if served is None:
            parser.error("the profile's builder has no formula")
        with tempfile.TemporaryDirectory(prefix="forge-memory-") as name:
            found.append(Measured(served, *measured(arguments, profile, Path(name))))
        sys.stderr.write(f"{row(found[-1])}\n")
    text = page(arguments.precision, found)
    sys.stdout.write(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def loaded(arguments: argparse.Namespace, batch: int, length: int) -> Profile:
    """Return the profile with this batch and length, which requires more than is computed."""
    overrides = (
        f"engine.precision={arguments.precision}", f"engine.max_batch_size={batch}",
        f"engine.max_input_len={length - 1}", f"engine.max_seq_len={length}",
        "requires.memory_mib=1000000",
    )  # fmt: skip
    return profiles.load(arguments.profile, ROOT / "profiles", overrides=overrides).profile


def measured(arguments: argparse.Namespace, profile: Profile, work: Path) -> tuple[Memory, Memory]:
    """Serve an engine; return its memory idle and with all sequences at their longest."""
    fields: dict[str, Json] = profile.model_dump(
        mode="json", include={"engine", "serving", "smoke"}
    )
    settings = RenderSettings.model_validate_json(json.dumps(fields))
    spec = render(arguments.engine, settings, Runtime(arguments.lock), work / "tree")
    installed = environments.inspect(arguments.environment)
    server, _ = started(
        lambda: TritonServer.start(work / "tree", spec, installed, work=work / "triton"),
        spec.start_timeout_s,
    )
    with server:
        time.sleep(2)
        idle = read(server.pid)
        requests = prompts(profile.engine.max_batch_size, profile.engine.max_seq_len)
        with sampled(server.pid) as peak, ThreadPoolExecutor(len(requests)) as pool:
            list(
                pool.map(
                    lambda one: answer(server.url, spec.model, one, timeouts=PATIENT), requests
                )
            )
    return idle, peak[0]


def prompts(batch: int, length: int) -> list[GenerateRequest]:
    """Return requests that together fill the KV cache: the first waits until all are read."""
    generated = 16 + (batch - 1) * -(-length // TOKENS_A_STEP)
    draw = random.Random(1)  # noqa: S311 - not a secret
    return [
        GenerateRequest(
            json.dumps([draw.randrange(100, VOCABULARY) for _ in range(length - generated)]),
            generated,
            Sampling(ignore_eos=True),
            "ids",
        )
        for _ in range(batch)
    ]


@contextlib.contextmanager
def sampled(session: int) -> Iterator[list[Memory]]:
    """Yield the largest memory of a session so far, in a list of one."""
    peak, stop = [read(session)], threading.Event()

    def watch() -> None:
        while not stop.wait(PERIOD_S):
            peak[0] = max(peak[0], read(session), key=lambda one: one.total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def read(session: int) -> Memory:
    """Return the memory of all processes of a session: smaps of proc(5).

    A file's pages count once, however many processes map them: other programs of the machine may
    map the same libraries, and the proportional size (PSS) would be smaller for it.
    """
    files: dict[tuple[str, str, str], int] = {}
    anonymous = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) == session:
                anonymous += add_mappings((entry / "smaps").read_text(), files)
    return Memory((anonymous + sum(files.values())) / 1024, anonymous / 1024)


def add_mappings(smaps: str, files: dict[tuple[str, str, str], int]) -> int:
    """Add a process's pages of files to `files`, by place; return its share of the others, KiB."""
    place, rss, anonymous, shared = ("", "", ""), 0, 0, 0
    for line in smaps.splitlines():
        name, *rest = line.split()
        match name:
            case "Rss:":
                rss = int(rest[0])
            case "Pss:":
                shared = int(rest[0])
            case "Anonymous:":
                own = int(rest[0])
                if place[1] == "0":  # no file
                    anonymous += shared
                else:
                    files[place] = max(files.get(place, 0), rss - own)
                    anonymous += own
            case _ if "-" in name and len(rest) > 3:  # noqa: PLR2004 - addresses of a mapping
                place = (rest[2], rest[3], rest[1])
    return anonymous


def row(one: Measured) -> str:
    """Return a case as a row of the table."""
    need, full = one.served.need, one.full.total
    cells: list[object] = [one.served.max_batch_size, one.served.max_seq_len]
    cells += [need.weights, need.cache, need.workspace, need.runtime, need.total]
    cells += [f"{full:.0f}", f"{100 * (need.total / full - 1):+.1f} %"]
    cells += [f"{one.idle.total:.0f}", f"{one.full.anonymous:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def page(precision: str, found: list[Measured]) -> str:
    """Return the table with the machine."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    names = ("batch", "length", "weights", "KV cache", "workspace", "runtime", "computed",
             "measured", "error", "idle", "anonymous")  # fmt: skip
    head = f"| {' | '.join(names)} |"
    lines = [f"{describe()}. Load {load}. Precision {precision}; MiB.", "", head]
    return "\n".join([*lines, f"|{'---:|' * len(names)}", *map(row, found), ""])


if __name__ == "__main__":
    sys.exit(main())
