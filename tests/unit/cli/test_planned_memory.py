"""The sentence of a plan on the memory of a profile."""

from __future__ import annotations

from typing import Any

from forge.cli.planned_memory import memory_lines
from forge.memory import CacheTerm, MemoryFormula, ServedMemory
from forge.memory.signed import encode_served_memory
from forge.steps import Step

SERVED = ServedMemory(
    formula=MemoryFormula(
        weights_mib=100, runtime_mib=10, workspace_mib=1, system_mib=2048,
        caches=(CacheTerm(bytes_per_token=2**20),),
    ),
    max_batch_size=2,
    max_seq_len=100,
)  # fmt: skip


def step(**settings: Any) -> Step:
    return Step(id="publish", argv=("x",), outputs=(), settings=settings, sources=())


def test_plan_says_what_is_taken_required_and_would_fit() -> None:
    part = {
        "profile": {"name": "thor", "requires": {"memory_mib": 511}},
        "memory": encode_served_memory(SERVED),
    }
    (line,) = memory_lines([step(), step(parts=[part])])
    assert line == (
        "Memory of thor: 311 MiB with max_batch_size 2 and max_seq_len 100 (weights 100, KV cache"
        " 200, workspace 1, runtime 10); 511 MiB are required, in which fits max_batch_size 4 with"
        " max_seq_len 100 or max_seq_len 200 with max_batch_size 2"
    )


def test_plan_says_whose_memory_is_not_computed_in_one_line_each() -> None:
    names = ["thor", "rtx-pro-4000-llmapi"]
    parts = [{"profile": {"name": name, "requires": {"memory_mib": 511}}} for name in names]
    lines = list(memory_lines([step(parts=parts), step(parts=["other"]), step()]))
    assert lines == [
        f"Memory of {name} is not computed (no &shape: forge checkpoint pin)" for name in names
    ]
    assert max(map(len, lines)) <= 80


def test_what_is_set_already_is_not_named_as_what_would_fit() -> None:
    part = {
        "profile": {"name": "thor", "requires": {"memory_mib": 311}},
        "memory": encode_served_memory(SERVED),
    }
    (line,) = memory_lines([step(parts=[part])])
    assert line.endswith("311 MiB are required")
