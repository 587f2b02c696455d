"""A small manifest."""

from __future__ import annotations

from forge.bundle import Fit, Manifest, ServingSettings, SmokeSummary, TreeReference
from forge.profiles import MatchSection


def manifest(version: str) -> Manifest:
    reference = TreeReference(digest="0" * 64, size=1, files=1)
    return Manifest(
        name="llm",
        version=version,
        profile="development",
        created="2026-11-24T00:00:00Z",
        tree=reference,
        proofs=reference,
        fit=Fit(
            platform="linux/amd64",
            match=MatchSection.model_validate({}),
            compute_capability=None,
            memory_mib=1,
            free_disk_mib=1,
            driver_min=None,
            jetpack=(),
            runtime={},
            power_mode=None,
        ),
        serving=ServingSettings(activation="swap", start_timeout_s=60, environments={}, images={}),
        smoke=SmokeSummary(
            concurrency=1,
            ttft_ms_p50=1,
            inter_token_ms_p50=1,
            output_tokens_per_s=1,
            error_rate=0,
            peak_rss_mib=1,
            machine="none",
        ),
        chain=(),
    )
