"""The text of a model's sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.memory import CacheLayers, ModelShape, parse_shape

SMOLLM2 = "p134515008.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64"
COUNTS = st.integers(0, 10**9)
CACHES = st.builds(
    CacheLayers,
    layers=st.integers(1, 999),
    heads=st.integers(1, 999),
    key_size=st.integers(0, 9999),
    value_size=st.integers(0, 9999),
    window=st.none() | st.integers(1, 10**6),
)
SHAPES = st.builds(
    ModelShape,
    parameters=COUNTS,
    table_parameters=COUNTS,
    vocabulary=st.integers(0, 10**6),
    hidden=st.integers(0, 10**5),
    intermediate=st.integers(0, 10**5),
    heads=st.integers(0, 999),
    tied=st.booleans(),
    caches=st.lists(CACHES, max_size=4).map(tuple),
    state_bytes=COUNTS,
)


def test_text_is_read_as_it_is_written_down() -> None:
    shape = parse_shape(SMOLLM2)
    assert shape.caches == (CacheLayers(layers=30, heads=3, key_size=64, value_size=64),)
    assert (shape.hidden, shape.tied, shape.inner_parameters) == (576, True, 106_203_456)


@given(SHAPES)
def test_every_shape_comes_back_from_its_text(shape: ModelShape) -> None:
    assert parse_shape(str(shape)) == shape


@pytest.mark.parametrize(
    "text",
    ["", "p1", SMOLLM2 + "x", SMOLLM2.replace(".t1", ".t2"), SMOLLM2 + ".c1x1", SMOLLM2 + "&a=b"],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the shape"):
        parse_shape(text)
