"""Counters, gauges and histograms of the device for Prometheus, in a registry of its own.

To add a metric, declare it here, in COUNTERS, HISTOGRAMS or SAMPLED, and call `add`, `observe`, or
return its samples from a source (forge.device.telemetry.device_samples). What vLLM has, too, has
vLLM's name with `forge_device_` for `vllm:`; docs/reference/metrics.md compares them.

`prometheus_client` is imported with the first `Metrics`: other commands do not load it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy as copy_of
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = [
    "CONTENT_TYPE",
    "COUNTERS",
    "HISTOGRAMS",
    "RENAMED",
    "SAMPLED",
    "Metrics",
    "Sample",
    "count_answer",
    "count_embeddings",
]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Counted(NamedTuple):
    """A counter that `Metrics.add` increases."""

    help: str
    labels: tuple[str, ...] = ()


class Distribution(NamedTuple):
    """A histogram that `Metrics.observe` fills; `buckets` are upper bounds."""

    help: str
    buckets: tuple[float, ...]
    labels: tuple[str, ...] = ()


class Sampled(NamedTuple):
    """A family whose samples a source returns at each scrape."""

    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


COUNTERS: Final = {
    "forge_device_requests_total": Counted("Inference requests, by HTTP status.", ("code",)),
    "forge_device_request_success_total": Counted(
        "Complete answers, by what ended them.", ("finished_reason",)
    ),
    "forge_device_prompt_tokens_total": Counted("Tokens of the prompts of complete answers."),
    "forge_device_generation_tokens_total": Counted("Tokens of complete answers."),
    "forge_device_embedding_requests_total": Counted("Complete answers of the embedding model."),
    "forge_device_embedding_tokens_total": Counted("Tokens of the inputs of these answers."),
    "forge_device_stream_errors_total": Counted("Streams that ended with an error event."),
    "forge_device_events_total": Counted(
        "Events of the device, as in forge device history.", ("event",)
    ),
    "forge_device_fetched_bytes_total": Counted("Bytes read from the store for bundles."),
    "forge_device_reused_bytes_total": Counted("Bytes taken from the slots instead."),
    "forge_device_unended_requests_total": Counted(
        "Requests that the model did not end in time after they were cancelled."
    ),
    "forge_device_slow_clients_total": Counted(
        "Clients that were cut because they did not read their answer, by limit.", ("limit",)
    ),
}
SAMPLED: Final = {
    "forge_device_info": Sampled(
        "gauge", "What is installed; always 1.", ("slot", "name", "version", "profile", "triton")
    ),
    "forge_device_state": Sampled("gauge", "1 for the state that the agent is in.", ("state",)),
    "forge_device_ready": Sampled("gauge", "1 while a committed slot serves."),
    "forge_device_uptime_seconds": Sampled("gauge", "Time since the agent started."),
    "forge_device_num_requests_running": Sampled("gauge", "Requests in Triton."),
    "forge_device_num_requests_waiting": Sampled("gauge", "Requests in the queue of the gateway."),
    "forge_device_requests_limit": Sampled("gauge", "Requests that may be in Triton at once."),
    "forge_device_requests_limit_max": Sampled(
        "gauge", "That limit where neither heat nor a fault lowers it."
    ),
    "forge_device_limit_changes_total": Sampled(
        "counter", "Changes of that limit by the governor.", ("direction",)
    ),
    "forge_device_queued_total": Sampled("counter", "Requests that had to wait in the queue."),
    "forge_device_queue_seconds_total": Sampled("counter", "Time that requests waited there."),
    "forge_device_crashes_in_a_row": Sampled("gauge", "Crashes of the active slot's server."),
    "forge_device_temperature_celsius": Sampled(
        "gauge", "Temperature of a sensor; decisive: the limit follows it.", ("sensor", "decisive")
    ),
    "forge_device_throttle_celsius": Sampled(
        "gauge", "Temperature from which the limit is lowered; of the active bundle."
    ),
    "forge_device_lost_temperature_readings_total": Sampled(
        "counter", "Readings without any temperature."
    ),
    "forge_device_throttled": Sampled(
        "gauge", "1 while heat or power lowers the clocks of what serves."
    ),
    "forge_device_power_mode": Sampled("gauge", "1 for nvpmodel's mode in force.", ("mode",)),
    "forge_device_gpu_power_limit_watts": Sampled("gauge", "Power limit in force.", ("gpu",)),
    "forge_device_power_watts": Sampled(
        "gauge", "Power of what serves: of a GPU, a board or processors.", ("source",)
    ),
    "forge_device_rail_power_watts": Sampled(
        "gauge", "Power of a rail, a GPU or a processor package.", ("rail",)
    ),
    "forge_device_energy_joules_total": Sampled(
        "counter", "Energy of what serves since the agent started.", ("source",)
    ),
    "forge_device_serving_energy_joules_total": Sampled(
        "counter", "The part of it while at least one request was in Triton.", ("source",)
    ),
    "forge_device_unmeasured_requests_total": Sampled(
        "counter", "Requests that Triton ended and whose energy is not known."
    ),
    "forge_device_channel_check_timestamp_seconds": Sampled(
        "gauge", "When the channel was last read, or tried to."
    ),
    "forge_device_channel_check_failed": Sampled("gauge", "1 if that failed."),
    "forge_device_channel_checks_failed_in_a_row": Sampled(
        "gauge", "Checks of the channel that have failed since one last succeeded."
    ),
    "forge_device_last_contact_timestamp_seconds": Sampled(
        "gauge", "When the channel was last read with valid signatures."
    ),
    "forge_device_offline_seconds": Sampled(
        "gauge", "Time for which every check of the channel has failed; 0: the last succeeded."
    ),
    "forge_device_up_to_date": Sampled(
        "gauge", "1 if what serves is what the channel pointed to when it was last read."
    ),
    "forge_device_weights_verified_timestamp_seconds": Sampled(
        "gauge", "When all files of a slot were last read and were intact, or repaired.", ("slot",)
    ),
    "forge_device_weights_read_bytes": Sampled(
        "gauge", "Of a slot whose files are being read: bytes read so far.", ("slot",)
    ),
    "forge_device_weights_damaged_files": Sampled(
        "gauge", "Files of a slot that are damaged and not repaired yet.", ("slot",)
    ),
    "forge_device_fetch_bytes": Sampled(
        "gauge", "Of the release that is downloaded now: bytes that are there."
    ),
    "forge_device_fetch_size_bytes": Sampled("gauge", "Bytes of the release downloaded now."),
    "forge_device_fetch_bytes_per_second": Sampled("gauge", "Rate of the download under way."),
    "forge_device_fetch_left_seconds": Sampled("gauge", "Time left of it, if that is known."),
    "forge_device_server_starting_seconds": Sampled(
        "gauge", "For how long the server of a slot has been starting.", ("slot",)
    ),
    "forge_device_metadata_expiry_timestamp_seconds": Sampled(
        "gauge", "When trusted metadata of the release expires.", ("role",)
    ),
    "forge_device_model_requests_total": Sampled(
        "counter", "Requests that the model ended, as Triton counts them.", ("result",)
    ),
    "forge_device_model_executions_total": Sampled(
        "counter", "Executions of the model; requests by executions is the mean batch."
    ),
    "forge_device_model_requests_pending": Sampled("gauge", "Requests that wait in Triton."),
    "forge_device_model_queue_seconds_total": Sampled(
        "counter", "Time that requests waited in Triton."
    ),
    "forge_device_model_compute_seconds_total": Sampled(
        "counter", "Time that requests were computed."
    ),
    "forge_device_memory_used_bytes": Sampled("gauge", "Memory of the machine in use."),
    "forge_device_memory_bytes": Sampled("gauge", "Memory of the machine."),
    "forge_device_gpu_memory_used_bytes": Sampled("gauge", "Memory of a GPU in use.", ("gpu",)),
    "forge_device_gpu_memory_bytes": Sampled("gauge", "Memory of a GPU.", ("gpu",)),
    "forge_device_gpu_power_watts": Sampled("gauge", "Power that a GPU draws.", ("gpu",)),
    "forge_device_gpu_utilization_ratio": Sampled("gauge", "Use of a GPU, 0 to 1.", ("gpu",)),
}
_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60,
                   120, 240, 300, 480)  # fmt: skip
_TOKENS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
HISTOGRAMS: Final = {
    "forge_device_time_to_first_token_seconds": Distribution(
        "From the arrival of a request to the first text of its answer, waiting included.",
        (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
         40, 80, 160, 300),
    ),
    "forge_device_inter_token_latency_seconds": Distribution(
        "Of each complete answer: (latency - time to first token) / (output tokens - 1).",
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1,
         2.5, 5),
    ),
    "forge_device_request_queue_time_seconds": Distribution(
        "Time that a request waited before it was sent to Triton; 0 where it did not wait.",
        (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30),
    ),
    "forge_device_e2e_request_latency_seconds": Distribution(
        "From the arrival of a request to the end of its answer, by how it ended.",
        _SECONDS, ("outcome",),
    ),
    "forge_device_request_energy_joules": Distribution(
        "Of each request that was in Triton: its equal share of the energy while it was.",
        (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000),
    ),
    "forge_device_request_prompt_tokens": Distribution(
        "Tokens of the prompt of each complete answer.", _TOKENS
    ),
    "forge_device_request_generation_tokens": Distribution(
        "Tokens of each complete answer.", _TOKENS
    ),
}  # fmt: skip
# Old names, which dashboards may use until version 0.2: each has the same samples.
RENAMED: Final = {
    "forge_device_requests_in_flight": "forge_device_num_requests_running",
    "forge_device_requests_waiting": "forge_device_num_requests_waiting",
    "forge_device_inter_token_seconds": "forge_device_inter_token_latency_seconds",
    "forge_device_queue_wait_seconds": "forge_device_request_queue_time_seconds",
    "forge_device_request_seconds": "forge_device_e2e_request_latency_seconds",
}


class Sample(NamedTuple):
    """One number of a family in SAMPLED."""

    family: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Metrics:
    """The registry; safe between threads."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge for each counter
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, one.help, one.labels, registry=self._registry)
            for name, one in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(
                name, one.help, one.labels, buckets=one.buckets, registry=self._registry
            )
            for name, one in HISTOGRAMS.items()
        }
        self._sources: list[Callable[[], Iterable[Sample]]] = []
        self._registry.register(_Sources(self._sources))

    def collect_from(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Call `source` at each scrape, from any thread, for samples of SAMPLED families."""
        self._sources.append(source)

    def add(self, family: str, value: float = 1, **labels: str) -> None:
        """Increase a counter."""
        counter = self._counters[family]
        (counter.labels(**labels) if labels else counter).inc(value)

    def observe(self, family: str, value: float, **labels: str) -> None:
        """Add one value to a histogram."""
        histogram = self._histograms[family]
        (histogram.labels(**labels) if labels else histogram).observe(value)

    def render(self) -> bytes:
        """Return the document of GET /metrics."""
        from prometheus_client import generate_latest

        return generate_latest(_WithOldNames(self._registry))


def count_answer(
    metrics: Metrics, prompt_tokens: int, generation_tokens: int, finished_reason: str
) -> None:
    """Count a complete answer, its tokens, and what ended it."""
    metrics.add("forge_device_request_success_total", finished_reason=finished_reason)
    metrics.add("forge_device_prompt_tokens_total", prompt_tokens)
    metrics.add("forge_device_generation_tokens_total", generation_tokens)
    metrics.observe("forge_device_request_prompt_tokens", prompt_tokens)
    metrics.observe("forge_device_request_generation_tokens", generation_tokens)


def count_embeddings(metrics: Metrics, tokens: int) -> None:
    """Count a complete answer of the embedding model, and the tokens of its inputs."""
    metrics.add("forge_device_embedding_requests_total")
    metrics.add("forge_device_embedding_tokens_total", tokens)


class _WithOldNames:
    """A registry whose renamed families also appear under their old names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield every family, and copies of those that were renamed."""
        old_of = {new: old for old, new in RENAMED.items()}
        for family in self._registry.collect():
            yield family
            if old := old_of.get(family.name):
                yield _renamed(family, old)


def _renamed(family: Metric, name: str) -> Metric:
    copy = copy_of(family)
    copy.name = name
    copy.documentation = f"Old name of {family.name}."
    copy.samples = [
        one._replace(name=name + one.name.removeprefix(family.name)) for one in family.samples
    ]
    return copy


class _Sources:
    """A collector of prometheus_client that calls the sources."""

    def __init__(self, sources: list[Callable[[], Iterable[Sample]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield one metric for each family that has samples."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        found: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for sample in (one for source in self._sources for one in source()):
            if sample.family not in found:
                family = SAMPLED[sample.family]
                found[sample.family] = kinds[family.kind](
                    sample.family, family.help, labels=family.labels
                )
            labels = dict(sample.labels)
            values = [labels[name] for name in SAMPLED[sample.family].labels]
            found[sample.family].add_metric(values, sample.value)
        yield from found.values()
