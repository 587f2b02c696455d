"""Metrics of the active server, read from Triton's own at each scrape.

Sources: Triton's docs/user_guide/metrics.md. Its GPU metrics come from DCGM, which Jetson and the
servers without NVIDIA's libraries do not have: their families are left out there.
"""

from __future__ import annotations

import http.client
import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

from forge.device.shared.upstream import Upstream
from forge.device.telemetry.metrics import Sample
from forge.serving.triton.connector import get

__all__ = ["parse_triton", "triton_samples"]

_log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 1.0  # Prometheus waits 10 s for all of /metrics
_MOST_BYTES: Final = 1024 * 1024


class _Shown(NamedTuple):
    """What a family of Triton's becomes."""

    family: str
    scale: float = 1.0  # Triton counts microseconds
    label: str = ""  # the label of ours
    of: str = ""  # the label of Triton's with its value
    value: str = ""  # or the value itself


_SHOWN: Final[Mapping[str, _Shown]] = {
    "nv_inference_request_success": _Shown(
        "forge_device_model_requests_total", label="result", value="success"
    ),
    "nv_inference_request_failure": _Shown(
        "forge_device_model_requests_total", label="result", of="reason"
    ),
    "nv_inference_exec_count": _Shown("forge_device_model_executions_total"),
    "nv_inference_pending_request_count": _Shown("forge_device_model_requests_pending"),
    "nv_inference_queue_duration_us": _Shown("forge_device_model_queue_seconds_total", 1e-6),
    "nv_inference_compute_infer_duration_us": _Shown(
        "forge_device_model_compute_seconds_total", 1e-6
    ),
    "nv_cpu_memory_used_bytes": _Shown("forge_device_memory_used_bytes"),
    "nv_cpu_memory_total_bytes": _Shown("forge_device_memory_bytes"),
    "nv_gpu_memory_used_bytes": _Shown(
        "forge_device_gpu_memory_used_bytes", label="gpu", of="gpu_uuid"
    ),
    "nv_gpu_memory_total_bytes": _Shown(
        "forge_device_gpu_memory_bytes", label="gpu", of="gpu_uuid"
    ),
    "nv_gpu_power_usage": _Shown("forge_device_gpu_power_watts", label="gpu", of="gpu_uuid"),
    "nv_gpu_utilization": _Shown("forge_device_gpu_utilization_ratio", label="gpu", of="gpu_uuid"),
}


def triton_samples(upstream: Upstream) -> tuple[Sample, ...]:
    """Return the samples of the active server; none if there is no server or no answer."""
    serving, _ = upstream.get()
    if serving is None or not serving.metrics_url:
        return ()
    try:
        with get(serving.metrics_url, _TIMEOUT_S) as response:
            text = response.read(_MOST_BYTES).decode()
        return parse_triton(text, serving.model)
    except (OSError, http.client.HTTPException, ValueError) as error:
        _log.debug("Triton's metrics cannot be read: %s", error)
        return ()


def parse_triton(text: str, model: str) -> tuple[Sample, ...]:
    """Return what the document of Triton's metrics says of this model and of the machine.

    Raises:
        ValueError: it is not in Prometheus' text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    found = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # Triton's counters have no `_total`; the parser adds it.
            shown = _SHOWN.get(sample.name.removesuffix("_total"))
            if shown is None or sample.labels.get("model", model) != model:
                continue
            value = shown.value or sample.labels.get(shown.of, "")
            labels = ((shown.label, value),) if shown.label else ()
            found.append(Sample(shown.family, labels, sample.value * shown.scale))
    return tuple(found)
