"""How often the gate's comparison is right, with a CPU hog beside: equal and 10 % slower builds.

    .venv/bin/python benchmarks/smoke_gate.py --repository TREE --environment VENV \
        [--trials 20] [--hogs 1] [--work-kb 1280] [--seconds 60] [--record FILE]

Serves a tree twice and a third time with work added to each step (its share of a step was measured
first, alone), starts processes that do nothing but compute, and compares in each trial the last
bundle with the equal build and with the slower one, as the smoke benchmark does. `--record` keeps
the ratios for the unit test of the decision.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from machine import describe

from forge import environments
from forge.serving.repository.spec import read_spec
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer, started
from forge.smoke.benchmark import connected, measure, prompt_set
from forge.smoke.metrics import RequestTimes
from forge.smoke.pairs import PairLimits, Send, compare_servers
from forge.smoke.regression import Comparison, compare_pairs
from forge.smoke.result import Pair

_STEP = "    def step(self) -> None:"
# Work of both processors, as of layers that were added to the model.
_SLOWER = """    from concurrent.futures import ThreadPoolExecutor
    _pool = ThreadPoolExecutor(2)
    _work = bytes({size})

    def step(self) -> None:
        import hashlib
        list(self._pool.map(lambda _: hashlib.sha256(self._work).digest(), (0, 1)))
        self._step()

    def _step(self) -> None:"""
MAX_TOKENS = 24


def main() -> int:
    """Run all trials and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, help="rendered model repository")
    parser.add_argument("--environment", type=Path, required=True, help="environment with Triton")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--hogs", type=int, default=1, help="processes that only compute")
    parser.add_argument("--work-kb", type=int, default=1280, help="hashed by each thread in a step")
    parser.add_argument("--seconds", type=float, default=60, help="for one comparison")
    parser.add_argument("--refused", type=float, default=10, help="smoke.regression_pct")
    parser.add_argument("--record", type=Path, help="file for the ratios of all pairs")
    arguments = parser.parse_args()
    sys.stdout.write(f"{describe()}\n\n")
    outcomes: dict[str, list[list[Pair]]] = {"equal": [], "slower": []}
    with tempfile.TemporaryDirectory(prefix="forge-smoke-gate-") as name, ExitStack() as stack:
        work, serve = Path(name), _server_of(arguments.environment)
        slower = _slower(arguments.repository, work / "slower", arguments.work_kb)
        trees = {"last": arguments.repository, "equal": arguments.repository, "slower": slower}
        servers = {
            name: stack.enter_context(serve(tree, work / f"triton-{name}"))
            for name, tree in trees.items()
        }
        send = stack.enter_context(_sender())
        requests = [GenerateRequest(prompt, MAX_TOKENS) for prompt in prompt_set("default")[:4]]
        for server in servers.values():
            for request in requests:
                send(server, request)
        limits = PairLimits(seconds=arguments.seconds, refused_pct=arguments.refused)
        alone = {
            one: compare_servers(servers[one], servers["last"], requests, send, PairLimits(most=24))
            for one in outcomes
        }
        for one, pairs in alone.items():
            sys.stdout.write(f"{one}, without the hogs: {_said(compare_pairs(pairs, 10))}\n")
        sys.stdout.flush()
        stack.enter_context(_hogs(arguments.hogs))
        for trial in range(arguments.trials):
            for one, kept in outcomes.items():
                began = time.monotonic()
                pairs = compare_servers(servers[one], servers["last"], requests, send, limits)
                kept.append(list(pairs))
                said = _said(compare_pairs(pairs, arguments.refused))
                took = time.monotonic() - began
                sys.stdout.write(f"{trial + 1} {one}: {len(pairs)} pairs, {took:.0f} s; {said}\n")
                sys.stdout.flush()
                if arguments.record:
                    _record(arguments.record, outcomes)
    for one, kept in outcomes.items():
        refused = sum(any(c.regressed for c in compare_pairs(p, arguments.refused)) for p in kept)
        sys.stdout.write(f"{one}: refused in {refused} of {len(kept)} trials\n")
    return 0


def _said(found: Sequence[Comparison]) -> str:
    verdict = "refused" if any(one.regressed for one in found) else "passed"
    figures = [
        f"{one.field.removesuffix('_ms')} {one.slower_pct:+.1f} ± {one.margin_pct:.1f} %"
        f"{' (noisy)' if one.not_compared else ''}"
        for one in found
    ]
    return f"{verdict}; {', '.join(figures)}"


def _record(path: Path, outcomes: dict[str, list[list[Pair]]]) -> None:
    document = {
        one: [[pair.model_dump(mode="json") for pair in pairs] for pairs in kept]
        for one, kept in outcomes.items()
    }
    path.write_text(json.dumps(document))


def _slower(tree: Path, target: Path, work_kb: int) -> Path:
    shutil.copytree(tree, target)
    model = next(target.glob("models/*/1/model.py"))
    text = model.read_text(encoding="utf-8")
    if _STEP not in text:
        raise SystemExit(f"{model} has no step to add work to")
    model.write_text(text.replace(_STEP, _SLOWER.format(size=work_kb * 1000), 1), encoding="utf-8")
    return target


def _server_of(environment: Path) -> Callable[[Path, Path], TritonServer]:
    installed = environments.inspect(environment)

    def serve(tree: Path, work: Path) -> TritonServer:
        spec = read_spec(tree)
        server, _ = started(
            lambda: TritonServer.start(tree, spec, installed, work=work), spec.start_timeout_s
        )
        return server

    return serve


@contextmanager
def _sender() -> Iterator[Send]:
    with connected(4) as client:

        def send(server: TritonServer, request: GenerateRequest) -> RequestTimes:
            return measure(server.url, server.spec.model, [request], 1, client)[0]

        yield send


@contextmanager
def _hogs(count: int) -> Iterator[None]:
    argv = [sys.executable, "-c", "while True: pass"]
    hogs = [subprocess.Popen(argv) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


if __name__ == "__main__":
    sys.exit(main())
