"""Hand-made results."""

from collections.abc import Sequence

from forge.smoke.metrics import estimate
from forge.smoke.result import (
    Estimate,
    GoldenAnswer,
    Level,
    Machine,
    RequestStatistics,
    Result,
    RunSample,
    ServerUsage,
    Slo,
    SmokeSettings,
)

MACHINE = Machine(cpu="AMD EPYC", cores=2, memory_mib=24105, gpu=None, driver=None, power_mode=None)
GPU = MACHINE.model_copy(update={"gpu": "NVIDIA RTX PRO 4000 Blackwell", "driver": "590.44.01"})


def distribution(p50: float) -> RequestStatistics:
    avg, low, mid, high = (Estimate(mean=p50 * factor) for factor in (1.1, 1, 2, 3))
    return RequestStatistics(avg=avg, p50=low, p90=mid, p99=high)


def sample(
    *,
    ttft_ms: float = 300,
    itl_ms: float = 15,
    rate: float = 60,
    processor_ms: float | None = 20,
    wait_ms: float | None = 0.5,
) -> RunSample:
    return RunSample(
        benchmark_duration_s=2,
        output_tokens=120,
        time_to_first_token_ms=ttft_ms,
        inter_token_latency_ms=itl_ms,
        output_token_throughput=rate,
        request_throughput=rate / 30,
        goodput=None,
        processor_ms_per_token=processor_ms,
        wait_ms_per_token=wait_ms,
        joules_per_token=None,
    )


def measured(
    concurrency: int,
    *,
    ttft_ms: float = 300,
    rate: float = 60,
    runs: Sequence[RunSample] | None = None,
) -> Level:
    """A level; its runs are all equal unless they are given."""
    chosen = tuple([sample(ttft_ms=ttft_ms, rate=rate)] * 5 if runs is None else runs)
    return Level(
        concurrency=concurrency,
        request_count=20,
        error_request_count=0,
        error_rate=0,
        error_examples=(),
        benchmark_duration_s=10,
        output_tokens=600,
        time_to_first_token=distribution(ttft_ms),
        inter_token_latency=distribution(15),
        inter_chunk_latency=distribution(15),
        request_latency=distribution(ttft_ms + 450),
        output_token_throughput_per_user=distribution(66),
        output_token_throughput=Estimate(mean=rate),
        request_throughput=Estimate(mean=rate / 30),
        goodput=None,
        processor_time_per_token=estimate([one.processor_ms_per_token or 0 for one in chosen]),
        energy_per_output_token=None,
        runs=chosen,
    )


def result(*at: Level, machine: Machine = MACHINE) -> Result:
    return Result(
        created="2026-11-24T05:00:00+00:00",
        machine=machine,
        settings=SmokeSettings(
            prompts="default",
            golden=(),
            concurrency=(1, 2),
            requests=4,
            runs=5,
            max_tokens=32,
            slo=Slo(ttft_ms=None, itl_ms=None),
        ),
        model="llm",
        triton="2.51.0",
        runtime={"openvino-genai": "2026.4.1.0"},
        server=ServerUsage(ready_s=4.5, cpu_s=12.0, peak_rss_mib=500.0),
        golden=(GoldenAnswer(prompt="2 + 2?", expect=("4",), got="4"),),
        measured=at or (measured(2, ttft_ms=900, rate=90), measured(1)),
    )
