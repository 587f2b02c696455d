"""Hand-made results."""

from forge.smoke.result import (
    Concurrency,
    GoldenAnswer,
    Machine,
    Percentiles,
    Result,
    ServerUsage,
    SmokeSettings,
)

MACHINE = Machine(cpu="AMD EPYC", cores=2, memory_mib=24105, gpu=None, driver=None, power_mode=None)


def percentiles(p50: float) -> Percentiles:
    return Percentiles(p50=p50, p90=2 * p50, p99=3 * p50)


def measured(concurrency: int, *, ttft_ms: float = 300, rate: float = 60) -> Concurrency:
    return Concurrency(
        concurrency=concurrency,
        requests=4,
        errors=0,
        error_rate=0,
        error_examples=(),
        seconds=2.0,
        output_tokens=120,
        output_tokens_per_s=rate,
        ttft_ms=percentiles(ttft_ms),
        inter_token_ms=percentiles(15),
    )


def result(*at: Concurrency, machine: Machine = MACHINE) -> Result:
    return Result(
        created="2026-11-24T05:00:00+00:00",
        machine=machine,
        settings=SmokeSettings(
            prompts="default", golden=(), concurrency=(1, 2), requests=4, max_tokens=32
        ),
        model="llm",
        triton="2.51.0",
        runtime={"openvino-genai": "2026.4.1.0"},
        server=ServerUsage(ready_s=4.5, cpu_s=12.0, peak_rss_mib=500.0),
        golden=(GoldenAnswer(prompt="2 + 2?", expect=("4",), got="4"),),
        measured=at or (measured(2, ttft_ms=900, rate=90), measured(1)),
    )
