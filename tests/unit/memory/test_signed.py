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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cache_share", 1e-310), ("cache_share", float("nan")), ("cache_share", 0),
        ("weights_mib", 10**400), ("runtime_mib", 10**30), ("workspace_mib", 10**30),
        ("sequence_bytes", 10**400), ("token_bytes", 10**400), ("copies", 10**400),
        ("spare", 10**400), ("block_tokens", 10**400), ("system_mib", 10**30),
        ("compile_mib", 10**30), ("caches", [{"bytes_per_token": 10**30}]),
    ],
)  # fmt: skip
def test_formula_that_cannot_be_computed_is_not_known(field: str, value: object) -> None:
    served = encode_served_memory(SERVED)
    served["formula"] = {**served["formula"], field: value}
    assert parse_served_memory({"memory": served}) is None


@pytest.mark.parametrize("field", ["max_batch_size", "max_seq_len"])
def test_limit_that_cannot_be_computed_is_not_known(field: str) -> None:
    served = {**encode_served_memory(SERVED), field: 10**400}
    assert parse_served_memory({"memory": served}) is None


def test_largest_accepted_formula_can_be_computed() -> None:
    most = {
        "weights_mib": 2**40, "runtime_mib": 2**40, "workspace_mib": 2**40,
        "caches": [{"bytes_per_token": 2**40}] * 64, "block_tokens": 2**24, "copies": 1024,
        "spare": 1024, "cache_share": 1e-6, "sequence_bytes": 2**60, "token_bytes": 2**60,
        "system_mib": 2**40, "compile_mib": 2**40,
    }  # fmt: skip
    served = parse_served_memory(
        {"memory": {"formula": most, "max_batch_size": 2**40, "max_seq_len": 2**40}}
    )
    assert served is not None
    assert served.total > 0
    assert served.suggestion(2**40) == ""
