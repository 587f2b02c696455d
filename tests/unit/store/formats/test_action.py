"""A step's result: what is kept, and that a damaged one is no result and no error."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from forge.bundle import TreeReference
from forge.errors import UsageError
from forge.store.formats.action import MAX_ACTION_BYTES, action_name, parse
from tests.support.stores import KEY, action

REFERENCE = TreeReference(digest="a" * 64, size=7, files=1)
OTHER = "b" * 64


def test_result_comes_back_from_its_bytes() -> None:
    result = action(REFERENCE, inputs={"model": OTHER}, parents=(OTHER,), log_tail="done\n")
    assert parse(result.encode(), KEY, "x") == result


def test_bytes_are_the_same_for_the_same_result() -> None:
    fields = {"a": "1", "b": "2"}
    turned = dict(reversed(fields.items()))
    assert action(REFERENCE, fields=fields).encode() == action(REFERENCE, fields=turned).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        json.dumps({"key": KEY}).encode(),
    ],
)
def test_damaged_bytes_are_no_result_and_a_warning(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse(data, KEY, "s3://bucket") is None
    assert KEY in caplog.text
    assert "s3://bucket" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema_version", 2), ("extra", 1), ("seconds", -1), ("key", "x"), ("outputs", {"a": "b"})],
)
def test_a_result_with_a_field_that_is_not_valid_is_none(field: str, value: object) -> None:
    document = json.loads(action(REFERENCE).encode())
    assert parse(json.dumps(document).encode(), KEY, "x") is not None
    assert parse(json.dumps({**document, field: value}).encode(), KEY, "x") is None


def test_the_result_of_another_key_is_none_and_both_keys_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse(action(REFERENCE).encode(), OTHER, "x") is None
    assert KEY in caplog.text
    assert OTHER in caplog.text


@given(st.text("a\u00e9\u20ac\U0001f600\ud800\n", max_size=6), st.sampled_from([1, 3000, 6000]))
def test_of_a_long_log_the_end_is_kept(text: str, times: int) -> None:
    text = text * times
    kept = action(REFERENCE, log_tail=text).log_tail
    whole = text.encode(errors="replace")
    assert len(kept.encode()) <= 16 * 1024
    assert whole.endswith(kept.encode())
    lost = len(whole) - len(kept.encode())
    assert lost <= max(0, len(whole) - 16 * 1024) + 3  # of a character that was cut


def test_a_log_of_undecodable_bytes_can_be_stored() -> None:
    result = action(REFERENCE, log_tail=b"\xff\xfe done".decode(errors="surrogateescape"))
    assert result.log_tail.endswith("done")
    assert parse(result.encode(), KEY, "x") == result


def test_the_longest_log_fits_into_the_bytes_that_are_read() -> None:
    assert len(action(REFERENCE, log_tail="\x00" * 16 * 1024).encode()) < MAX_ACTION_BYTES


def test_a_negative_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="seconds"):
        action(REFERENCE, seconds=-0.1)


def test_only_a_key_has_a_name() -> None:
    assert action_name(KEY) == f"actions/{KEY}.json"
    for key in ("", "x", KEY.upper(), f"{KEY}/../{KEY}", f"{KEY}\n"):
        with pytest.raises(UsageError, match="64 hexadecimal digits") as caught:
            action_name(key)
        assert repr(key) in caught.value.what
