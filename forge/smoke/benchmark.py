"""The smoke benchmark: real Triton, golden prompts, then load at each concurrency."""

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

from pydantic import BaseModel, ConfigDict, Field

from forge import environments
from forge.container import TRITON
from forge.errors import ConfigurationError, ForgeError
from forge.files import write_durably
from forge.serving.client import Ask, stream
from forge.serving.compile import Compiler, Job
from forge.serving.events import Finished
from forge.serving.probe import probe
from forge.serving.server import TritonServer, started
from forge.serving.spec import Spec, read_spec
from forge.smoke import machine
from forge.smoke.metrics import RequestTimes, summarise
from forge.smoke.result import (
    RESULT_FILE,
    Concurrency,
    GoldenAnswer,
    Machine,
    Result,
    ServerUsage,
    SmokeSettings,
)

__all__ = ["BenchmarkSettings", "benchmark", "measure", "prompt_set"]


class _Serving(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    start_timeout_s: float | None = Field(default=None, gt=0)


class _Power(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: str | None = None
    limit_w: int | None = None


class BenchmarkSettings(BaseModel):
    """The profile fields the benchmark reads, nested as in a profile."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    smoke: SmokeSettings
    serving: _Serving = _Serving()
    power: _Power = _Power()


def benchmark(
    tree: Path, environment: Path | None, settings: BenchmarkSettings, output: Path
) -> Result:
    """Serve `tree`, ask, measure, write `output`/result.json.

    Args:
        tree: a rendered model repository; only read.
        environment: the virtual environment that holds Triton; None: the image around us does.
        settings: what to measure.
        output: folder for the result; Triton's log of a failure is in `output`-triton beside it.

    Raises:
        SmokeGateError: a golden prompt got a wrong answer, or all came too slowly for a device.
        BundleError: the engine that devices compile themselves does not compile here.
        StepFailedError: Triton did not start or died; the compiler is not on this machine.
        ConfigurationError: the tree or the environment is not right, or this machine runs at
            another power than the profile is served at, or in another image.
    """
    _check_power(settings.power, machine.here())
    spec = read_spec(tree)
    installed = environments.inspect(environment) if environment else _of_the_image(spec)
    timeout = settings.serving.start_timeout_s or spec.start_timeout_s
    with _kept_if_it_fails(output.with_name(f"{output.name}-triton")) as work:
        engine = _compiled(tree, spec, installed.root, work)
        server, ready = started(
            lambda: TritonServer.start(tree, spec, installed, work=work, engine=engine), timeout
        )
        with server:
            _say(f"Triton {server.version()} is ready after {ready:.1f} s")
            result = _measure_all(server, spec, settings.smoke, ready)
    data = json.dumps(result.model_dump(mode="json"), indent=2, sort_keys=True)
    write_durably(output / RESULT_FILE, data.encode() + b"\n")
    return result


def _of_the_image(spec: Spec) -> environments.Installed:
    if spec.image is None:
        message = "The model repository is served from an environment, and none is given"
        raise ConfigurationError(message, hint="give --environment")
    return environments.of_image(TRITON)


def measure(ask: Sequence[Ask], concurrency: int) -> list[RequestTimes]:
    """Send all requests, `concurrency` of them at any time."""
    import httpx

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    with (
        httpx.Client(trust_env=False, limits=limits) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        return list(pool.map(lambda one: _timed(one, client), ask))


def prompt_set(name: str) -> list[str]:
    """The prompts of a packaged set."""
    text = (resources.files("forge.smoke") / "prompts" / f"{name}.json").read_text("utf-8")
    return [str(prompt) for prompt in json.loads(text)]


def _compiled(tree: Path, spec: Spec, environment: Path, work: Path) -> Path | None:
    """The engine, compiled here as each device will; None where the tree holds it."""
    wanted = spec.compile_on_device
    if wanted is None:
        return None
    work.mkdir(parents=True, exist_ok=True)
    compiler = Compiler(work / "engines", work / "compile.log", _say)
    job = Job.of(tree, spec, wanted, {}, environment)
    return compiler.ensure(job, meanwhile=lambda: wanted.timeout_s)


def _check_power(wanted: _Power, here: Machine) -> None:
    """What cannot be read (a container without nvpmodel) is not held against the machine."""
    pairs = (
        ("mode", wanted.mode, here.power_mode),
        ("limit_w", wanted.limit_w, here.power_limit_w),
    )
    for field, want, have in pairs:
        if want is not None and have is not None and want != have:
            raise ConfigurationError(
                "The profile would be measured at another power than it is served at",
                why=f"its power.{field} is {want}, in force here is {have}",
                hint="sudo forge device power --apply --profile NAME, on this machine",
            )


@contextmanager
def _kept_if_it_fails(folder: Path) -> Iterator[Path]:
    """A folder for the body; a failure's message names the log in it, so then it stays."""
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


def _measure_all(server: TritonServer, spec: Spec, smoke: SmokeSettings, ready: float) -> Result:
    golden = probe(server.url, spec.model_copy(update={"golden": smoke.golden}))
    _say(f"{len(golden)} golden prompts answered as expected")
    measured = [_at(server, spec, smoke, concurrency) for concurrency in smoke.concurrency]
    used = server.usage()
    return Result(
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=machine.here(),
        settings=smoke,
        model=spec.model,
        triton=server.version(),
        runtime=spec.runtime,
        server=ServerUsage(
            ready_s=round(ready, 3),
            cpu_s=round(used.cpu_seconds, 2),
            peak_rss_mib=round(used.peak_rss_mib, 1),
        ),
        golden=tuple(
            GoldenAnswer(prompt=item.prompt, expect=item.expect, got=item.got) for item in golden
        ),
        measured=tuple(measured),
    )


def _at(server: TritonServer, spec: Spec, smoke: SmokeSettings, concurrency: int) -> Concurrency:
    prompts = prompt_set(smoke.prompts)
    asks = [
        Ask(server.url, spec.model, prompts[number % len(prompts)], smoke.max_tokens)
        for number in range(smoke.requests)
    ]
    found = summarise(concurrency, measure(asks, concurrency))
    first = f"TTFT {found.ttft_ms.p50:.0f} ms" if found.ttft_ms else "no text"
    _say(
        f"{concurrency} at once: {found.requests} requests, {found.errors} errors, {first},"
        f" {found.output_tokens_per_s:.1f} tokens/s"
    )
    return found


def _timed(ask: Ask, client: object) -> RequestTimes:
    import httpx

    times: list[float] = []
    tokens, error = 0, ""
    sent = time.monotonic()
    try:
        for event in stream(ask, client if isinstance(client, httpx.Client) else None):
            if isinstance(event, Finished):
                tokens = event.output_tokens
            else:
                times.append(time.monotonic())
    except ForgeError as failure:
        tokens, error = 0, f"{failure.what}: {failure.why}" if failure.why else failure.what
    return RequestTimes(sent, tuple(times), time.monotonic(), tokens, error)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
