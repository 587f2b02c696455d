"""Triton's own metrics among the device's: text of a real Triton 2.51, GPU lines of its docs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from forge.device.shared.upstream import Upstream
from forge.device.telemetry.metrics import SAMPLED
from forge.device.telemetry.triton_samples import parse_triton, triton_samples
from tests.support.gateway_app import SERVING

TEXT = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="llm",version="1"} 12
nv_inference_request_success{model="other",version="1"} 99
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="llm",reason="CANCELED",version="1"} 3
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="llm",version="1"} 6
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="llm",version="1"} 2500000
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{model="llm",version="1"} 1500000
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="llm",version="1"} 2
# TYPE nv_cpu_memory_used_bytes gauge
nv_cpu_memory_used_bytes 915410944
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-7"} 4096
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{gpu_uuid="GPU-7"} 61.5
# TYPE nv_energy_consumption counter
nv_energy_consumption{gpu_uuid="GPU-7"} 5
"""


def found(text: str = TEXT) -> dict[tuple[str, ...], float]:
    samples = parse_triton(text, "llm")
    return {(one.family, *(value for _, value in one.labels)): one.value for one in samples}


def test_the_model_s_queue_and_results_are_those_of_the_active_model() -> None:
    numbers = found()
    assert numbers["forge_device_model_requests_total", "success"] == 12
    assert numbers["forge_device_model_requests_total", "CANCELED"] == 3
    assert numbers["forge_device_model_executions_total",] == 6
    assert numbers["forge_device_model_queue_seconds_total",] == pytest.approx(2.5)
    assert numbers["forge_device_model_compute_seconds_total",] == pytest.approx(1.5)
    assert numbers["forge_device_model_requests_pending",] == 2


def test_memory_and_power_are_shown_where_triton_knows_them() -> None:
    numbers = found()
    assert numbers["forge_device_memory_used_bytes",] == 915410944
    assert numbers["forge_device_gpu_memory_used_bytes", "GPU-7"] == 4096
    assert numbers["forge_device_gpu_power_watts", "GPU-7"] == 61.5
    assert len(numbers) == 9  # nothing else of Triton's


def test_every_family_is_declared_with_its_labels() -> None:
    for one in parse_triton(TEXT, "llm"):
        assert SAMPLED[one.family].labels == tuple(name for name, _ in one.labels)


@pytest.fixture
def triton() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(TEXT.encode() if self.path == "/metrics" else b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(url: str) -> Upstream:
    upstream = Upstream()
    upstream.set(replace(SERVING, model="llm", metrics_url=url))
    return upstream


def test_the_active_server_is_asked(triton: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{triton.server_port}"
    assert len(triton_samples(at(f"{url}/metrics"))) == 9
    assert triton_samples(at(f"{url}/something-else")) == ()


def test_no_server_and_one_that_does_not_answer_give_nothing() -> None:
    assert triton_samples(Upstream()) == ()
    assert triton_samples(at("")) == ()
    assert triton_samples(at("http://127.0.0.1:9/metrics")) == ()
