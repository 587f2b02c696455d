"""The memory of a release in the signed metadata."""

import pytest

from forge.memory import CacheTerm, MemoryFormula, ServedMemory
from forge.memory.signed import encode_served_memory, parse_served_memory

SERVED = ServedMemory(
    formula=MemoryFormula(
        weights_mib=100,
        runtime_mib=10,
        workspace_mib=1,
        caches=(CacheTerm(bytes_per_token=1024),),
        block_tokens=32,
    ),
    max_batch_size=4,
    max_seq_len=2048,
)


def test_what_is_written_is_read() -> None:
    assert parse_served_memory({"memory": encode_served_memory(SERVED)}) == SERVED


def test_defaults_are_not_written() -> None:
    assert encode_served_memory(SERVED) == {
        "formula": {
            "weights_mib": 100,
            "runtime_mib": 10,
            "workspace_mib": 1,
            "caches": [{"bytes_per_token": 1024}],
            "block_tokens": 32,
        },
        "max_batch_size": 4,
        "max_seq_len": 2048,
    }


@pytest.mark.parametrize(
    "custom",
    [None, {}, [], "memory", {"identity": "a"}, {"memory": None}, {"memory": {"formula": {}}},
     {"memory": {**encode_served_memory(SERVED), "max_batch_size": 0}}],
)  # fmt: skip
def test_release_of_which_it_is_not_known_has_none(custom: object) -> None:
    assert parse_served_memory(custom) is None


def test_field_of_a_later_version_is_ignored() -> None:
    later = {**encode_served_memory(SERVED), "more": 1}
    assert parse_served_memory({"memory": later}) == SERVED
