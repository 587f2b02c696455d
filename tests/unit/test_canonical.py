"""Canonical JSON: one byte string for a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import canonical

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


def test_dumps_sorts_keys_and_writes_no_white_space() -> None:
    assert canonical.dumps({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'.encode()


@given(st.dictionaries(st.text(), json_values))
def test_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical.digest(value) == canonical.digest(backwards)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_dumps_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical.dumps(value)
