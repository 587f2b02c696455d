"""Accuracy receipts for tests."""

from __future__ import annotations

from typing import Any

from forge.accuracy.receipt import Receipt

PROFILE = {"kl_mean": None, "same_top": None, "perplexity_ratio": None, "regression_pct": 50}
POSITIONS = {"short": 1140, "batch": 1140, "long": 1023, "decode": 128}
FIGURES = {
    "kl_mean": 0.001,
    "kl_p99": 0.02,
    "same_top": 0.98,
    "perplexity": 12.0,
    "perplexity_ratio": 1.001,
}


def receipt(
    *, precision: str = "fp16", text: str = "0" * 64, only: str | None = None, **figures: Any
) -> Receipt:
    """A receipt with these figures in one section, or in all."""
    sections = {
        name: {
            "positions": count,
            "batch": 2 if name == "batch" else 1,
            "context": 1024 if name == "long" else 96,
            **FIGURES,
            **(figures if only in (None, name) else {}),
        }
        for name, count in POSITIONS.items()
    }
    return Receipt.model_validate(
        {
            "executed": "OpenVINO IR, openvino 2026.4.1, CPU",
            "precision": precision,
            "reference": {
                "sha256": "a" * 64,
                "precision": "float32",
                "architecture": "llama",
                "text": {"sha256": text, "tokens": 2368},
            },
            "sections": sections,
            "seconds": 9.5,
        }
    )
