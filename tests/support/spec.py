"""A serving.json as a rendered tree holds it; tests name only what matters to them."""

from __future__ import annotations

from typing import Any

from forge.serving.repository.spec import Spec


def a_spec(**changes: Any) -> Spec:
    values: dict[str, Any] = {
        "model": "llm",
        "server": "environment",
        "environment": "triton-openvino",
        "python": "3.11",
        "lock": "runtime/requirements.lock",
        "image": None,
        "repository": "models",
        "builder": "openvino",
        "runtime": {"openvino": "2026.1.0"},
        "max_batch_size": 8,
        "max_input_len": 1024,
        "max_seq_len": 2048,
        "default_max_tokens": 64,
        "start_timeout_s": 60.0,
        "golden": (),
    }
    return Spec(**values | changes)
