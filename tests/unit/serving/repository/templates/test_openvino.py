"""What OpenVINO's scheduler is told, with a stand-in for its package."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from tests.support.templates import load


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    genai = types.ModuleType("openvino_genai")
    genai.SchedulerConfig = types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino_genai", genai)
    monkeypatch.setenv("FORGE_SITE_PACKAGES", str(tmp_path))
    return load("openvino", "model")


def told(model: Any, **settings: Any) -> dict[str, Any]:
    known = {"max_batch_size": 4, "max_seq_len": 100, "kv_cache_mib": None}
    limits = model.Limits(**{**known, "max_num_batched_tokens": None, **settings})
    return dict(vars(model.scheduler(limits)))


def test_runtime_keeps_its_defaults_where_a_setting_is_null(model: Any) -> None:
    assert told(model) == {"max_num_seqs": 4, "num_kv_blocks": 16}


def test_settings_reach_the_scheduler(model: Any) -> None:
    assert told(model, max_num_batched_tokens=512)["max_num_batched_tokens"] == 512
    sized = told(model, kv_cache_mib=1500)
    assert sized == {"max_num_seqs": 4, "cache_size": 2}
