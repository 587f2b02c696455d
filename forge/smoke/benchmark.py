"""The smoke benchmark: real Triton, golden prompts, then runs of load at each concurrency."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from forge import environments
from forge.container import TRITON
from forge.errors import ConfigurationError, ForgeError
from forge.files import write_durably
from forge.serving.on_device_compile import CompileJob, Compiler
from forge.serving.repository.spec import Spec, read_spec
from forge.serving.triton.accuracy_probe import check_accuracy, read_probe
from forge.serving.triton.client import stream
from forge.serving.triton.embedding_probe import probe_embeddings
from forge.serving.triton.golden_prompts import probe
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer, started
from forge.serving.triton.stream import Finished
from forge.smoke import machine
from forge.smoke.energy import EnergyMeter
from forge.smoke.gpu_choice import ChosenGpu, GpuWanted
from forge.smoke.metrics import ProcessorTime, RequestTimes, RunTimes, level
from forge.smoke.pairs import PairLimits, compare_servers
from forge.smoke.processor import processor_time
from forge.smoke.result import (
    RESULT_FILE,
    GoldenAnswer,
    Level,
    Machine,
    Result,
    ServerUsage,
    SideBySide,
    SmokeSettings,
    figures,
)

if TYPE_CHECKING:
    import httpx

__all__ = ["BenchmarkSettings", "benchmark", "connected", "measure", "prompt_set", "sweep"]

DATA_FILES: Final = ("prompts/*.json",)  # part of a step's key


class _Serving(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    start_timeout_s: float | None = Field(default=None, gt=0)


class _Power(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: str | None = None
    limit_w: int | None = None


class _Match(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    gpu_name: str | None = None


class _Hardware(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    compute_capability: str | None = None
    match: _Match = _Match()


class BenchmarkSettings(BaseModel):
    """The profile fields the benchmark reads, nested as in a profile."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    smoke: SmokeSettings
    serving: _Serving = _Serving()
    power: _Power = _Power()
    hardware: _Hardware | None = None

    @property
    def gpu_wanted(self) -> GpuWanted:
        """Which GPU the profile is for."""
        if self.hardware is None:
            return GpuWanted(is_known=False)
        return GpuWanted(self.hardware.compute_capability, self.hardware.match.gpu_name)


def benchmark(
    tree: Path,
    environment: Path | None,
    settings: BenchmarkSettings,
    output: Path,
    last: Path | None = None,
) -> Result:
    """Serve `tree`, run the benchmark and write `output`/result.json.

    Args:
        tree: a rendered model repository; not modified.
        environment: virtual environment with Triton; None: this image contains Triton.
        settings: profile fields of the benchmark.
        output: folder for the result; after a failure, Triton's log is in `output`-triton.
        last: the last published bundle's tree, to be served too and asked in turn.

    Raises:
        SmokeGateError: a golden prompt got a wrong answer, or all answers were too slow.
        BundleError: the engine, which devices compile, does not compile here.
        StepFailedError: Triton did not start or died, or this machine lacks the compiler.
        ConfigurationError: the tree or the environment is not valid, or the image or the power
            settings of this machine differ from those of the profile.
    """
    chosen = machine.chosen_gpu(settings.gpu_wanted)
    _check_power(settings.power, machine.here(chosen))
    spec = read_spec(tree)
    installed = environments.inspect(environment) if environment else _of_the_image(spec)
    timeout = settings.serving.start_timeout_s or spec.start_timeout_s
    with _kept_if_it_fails(output.with_name(f"{output.name}-triton")) as work:
        engine = _compiled(tree, spec, installed.root, work, chosen)
        server, ready = started(
            lambda: TritonServer.start(
                tree, spec, installed, work=work, engine=engine, environment=chosen.environment
            ),
            timeout,
        )
        with server:
            _report(f"Triton {server.version()} is ready after {ready:.1f} s")
            golden = _golden(server, spec, settings.smoke)
            # First of all: a server that has decoded full batches needs more time for a token than
            # one that has not (9 % more processor time for SmolLM2 with OpenVINO).
            beside = last and _side_by_side(
                server, last, installed, settings, work / "last", chosen
            )
            _check_accuracy(server, spec, tree)
            result = _measure_all(server, spec, settings.smoke, ready, golden, chosen)
            result = result.model_copy(update={"side_by_side": beside})
    data = json.dumps(result.model_dump(mode="json"), indent=2, sort_keys=True)
    write_durably(output / RESULT_FILE, data.encode() + b"\n")
    return result


def _of_the_image(spec: Spec) -> environments.Installed:
    if spec.image is None:
        message = "The model repository requires an environment"
        raise ConfigurationError(message, hint="use --environment DIR")
    return environments.of_image(TRITON)


@contextmanager
def connected(concurrency: int) -> Iterator[httpx.Client]:
    """Yield a client that keeps `concurrency` connections, so that runs need not connect again."""
    from forge.serving.triton.httpx_transport import triton_client

    with triton_client(concurrency) as client:
        yield client


def measure(
    url: str,
    model: str,
    requests: Sequence[GenerateRequest],
    concurrency: int,
    client: httpx.Client,
) -> tuple[RequestTimes, ...]:
    """Send all requests, `concurrency` of them in parallel, and return their times."""
    with ThreadPoolExecutor(concurrency) as pool:
        return tuple(pool.map(lambda one: _timed(url, model, one, client), requests))


def prompt_set(name: str) -> list[str]:
    """Return the prompts of a packaged set."""
    text = (resources.files("forge.smoke") / "prompts" / f"{name}.json").read_text("utf-8")
    return [str(prompt) for prompt in json.loads(text)]


def _compiled(
    tree: Path, spec: Spec, environment: Path, work: Path, chosen: ChosenGpu
) -> Path | None:
    """Compile the engine as a device does; return None if the tree contains it."""
    wanted = spec.compile_on_device
    if wanted is None:
        return None
    work.mkdir(parents=True, exist_ok=True)
    compiler = Compiler(work / "engines", work / "compile.log", _report)
    job = CompileJob.of(tree, spec, wanted, {}, environment, chosen.environment or {})
    return compiler.ensure(job, on_poll=lambda: wanted.timeout_s)


def _check_power(wanted: _Power, here: Machine) -> None:
    """Raise ConfigurationError if the power settings differ; unknown ones are ignored."""
    pairs = (
        ("mode", wanted.mode, here.power_mode),
        ("limit_w", wanted.limit_w, here.power_limit_w),
    )
    for field, expected, actual in pairs:
        if expected is not None and actual is not None and expected != actual:
            raise ConfigurationError(
                "The power settings of this machine differ from those of the profile",
                why=f"power.{field} is {expected} in the profile and {actual} on this machine",
                hint="sudo forge device power --apply --profile NAME, on this machine",
            )


@contextmanager
def _kept_if_it_fails(folder: Path) -> Iterator[Path]:
    """Yield a folder; it is kept after a failure, whose message names the log in it."""
    shutil.rmtree(folder, ignore_errors=True)
    failed = False
    try:
        yield folder
    except ForgeError:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)


def _golden(server: TritonServer, spec: Spec, smoke: SmokeSettings) -> tuple[GoldenAnswer, ...]:
    found = probe(server.url, spec.model_copy(update={"golden": smoke.golden}))
    _report(f"{len(found)} golden prompts answered as expected")
    return tuple(
        GoldenAnswer(prompt=item.prompt, expect=item.expect, got=item.got) for item in found
    )


def _check_accuracy(server: TritonServer, spec: Spec, tree: Path) -> None:
    """Let the model score the tokens of its receipt at full batch, as a device does alone."""
    if expected := read_probe(tree):
        found = check_accuracy(server.url, spec.model, expected, together=spec.max_batch_size)
        _report(f"the model agrees with its receipt: {max(one.mean for one in found):.3g} nats")
    if agreed := probe_embeddings(server.url, spec, tree):
        least = min(agreed.cosine_alone, agreed.cosine_together)
        _report(f"the embedding model agrees with its checkpoint: least cosine {least:.6f}")


def _measure_all(
    server: TritonServer,
    spec: Spec,
    smoke: SmokeSettings,
    ready: float,
    golden: tuple[GoldenAnswer, ...],
    chosen: ChosenGpu,
) -> Result:
    with EnergyMeter(chosen, machine.ask_smi) as meter:
        measured = [
            _at(server, spec, smoke, concurrency, meter)
            for concurrency in sweep(smoke.concurrency, spec.max_batch_size)
        ]
    used = server.usage()
    return Result(
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=machine.here(chosen),
        conditions=meter.conditions(),
        settings=smoke,
        model=spec.model,
        triton=server.version(),
        runtime=spec.runtime,
        server=ServerUsage(
            ready_s=round(ready, 3),
            cpu_s=round(used.cpu_seconds, 2),
            peak_rss_mib=round(used.peak_rss_mib, 1),
        ),
        golden=golden,
        measured=tuple(measured),
    )


def sweep(concurrency: Sequence[int], max_batch_size: int) -> list[int]:
    """Return the concurrencies to measure, ascending: the profile's, and the full batch."""
    return sorted({*concurrency, max_batch_size})


def _at(
    server: TritonServer, spec: Spec, smoke: SmokeSettings, concurrency: int, meter: EnergyMeter
) -> Level:
    """Measure one concurrency: a run that is not counted, then the runs that are.

    Every run sends the same requests, at least one for each place of the batch.
    """
    prompts = prompt_set(smoke.prompts)
    requests = [
        GenerateRequest(prompts[number % len(prompts)], smoke.max_tokens)
        for number in range(max(smoke.requests, concurrency))
    ]
    with connected(concurrency) as client:
        measure(server.url, spec.model, requests, concurrency, client)  # warm-up
        runs = [_run(server, requests, concurrency, client, meter) for _ in range(smoke.runs)]
    found = level(concurrency, runs, smoke.slo)
    _report(
        f"concurrency {concurrency}: {found.request_count} requests in {len(runs)} runs,"
        f" {found.error_request_count} errors; {figures(found)}"
    )
    return found


def _side_by_side(
    server: TritonServer,
    last: Path,
    installed: environments.Installed,
    settings: BenchmarkSettings,
    work: Path,
    chosen: ChosenGpu,
) -> SideBySide | None:
    """Serve the last bundle too and ask both in turn; None if this environment cannot serve it."""
    spec, timeout = read_spec(last), settings.serving.start_timeout_s
    if why := _not_servable(spec, server.spec):
        _report(f"the last bundle is not compared side by side: {why}")
        return None
    smoke = settings.smoke
    prompts = prompt_set(smoke.prompts)[: smoke.requests]
    requests = [GenerateRequest(prompt, smoke.max_tokens) for prompt in prompts]
    before, _ = started(
        lambda: TritonServer.start(
            last, spec, installed, work=work, environment=chosen.environment
        ),
        timeout or spec.start_timeout_s,
    )
    with before, connected(2) as client:

        def send(to: TritonServer, request: GenerateRequest) -> RequestTimes:
            return _timed(to.url, to.spec.model, request, client)

        for request in requests:  # warm-up
            send(before, request)
            send(server, request)
        limits = PairLimits(refused_pct=smoke.regression_pct)
        pairs = compare_servers(server, before, requests, send, limits)
    _report(f"{len(pairs)} pairs of requests to this build and the last bundle in turn")
    return SideBySide(pairs=pairs)


def _not_servable(last: Spec, now: Spec) -> str:
    if last.compile_on_device is not None or now.compile_on_device is not None:
        return "devices compile its engine"
    if (last.server, last.runtime, last.python) != (now.server, now.runtime, now.python):
        return "it is bound to another runtime"
    return ""


def _run(
    server: TritonServer,
    requests: Sequence[GenerateRequest],
    concurrency: int,
    client: httpx.Client,
    meter: EnergyMeter,
) -> RunTimes:
    energy, before = meter.reading(), processor_time(server.pid)
    times = measure(server.url, server.spec.model, requests, concurrency, client)
    after = processor_time(server.pid)
    end = meter.reading()
    joules = meter.joules(energy, end)
    return RunTimes(times, _used(before, after), joules, end.began - energy.ended)


def _used(before: ProcessorTime | None, after: ProcessorTime | None) -> ProcessorTime | None:
    return None if before is None or after is None else after - before


def _timed(url: str, model: str, request: GenerateRequest, client: httpx.Client) -> RequestTimes:
    chunks: list[float] = []
    tokens, error = 0, ""
    sent = time.monotonic()
    try:
        for event in stream(url, model, request, client=client):
            if isinstance(event, Finished):
                tokens = event.output_tokens
            else:
                chunks.append(time.monotonic())
    except ForgeError as failure:
        tokens, error = 0, f"{failure.what}: {failure.why}" if failure.why else failure.what
    return RequestTimes(sent, tuple(chunks), tokens, error)


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
