"""The text of a model's sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.memory import CacheLayers, ModelShape, parse_shape

SMOLLM2 = "p134515008.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64"
CACHES = st.builds(
    CacheLayers,
    layers=st.integers(1, 999),
    heads=st.integers(1, 999),
    key_size=st.integers(1, 40),
    value_size=st.integers(0, 40),
    window=st.none() | st.integers(1, 10**6),
)
SHAPES = st.builds(
    ModelShape,
    parameters=st.integers(10**11, 10**14),
    table_parameters=st.integers(0, 10**10),
    vocabulary=st.integers(1, 10**6),
    hidden=st.integers(1, 10**5),
    intermediate=st.integers(0, 10**5),
    heads=st.integers(1, 999),
    tied=st.booleans(),
    caches=st.lists(CACHES, min_size=1, max_size=4).map(tuple),
    state_bytes=st.integers(0, 10**9),
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


@pytest.mark.parametrize(
    "text",
    [
        "p0.e0.v0.h0.i0.a0.t0",
        "p0.e999999999.v1.h1.i1.a1.t1",
        "p1000.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64",
        "p134515008.e28311552.v49152.h576.i1536.a9.t1",  # attention without a cache
        SMOLLM2.replace("p134515008", "p\u0661\u0663"),  # digits of another script
        SMOLLM2.replace(".e28311552", ".e134515008"),
        SMOLLM2.replace(".v49152", ".v999999999"),
        SMOLLM2.replace(".v49152", ".v0"),
        SMOLLM2.replace(".h576", ".h5760"),  # its table is more than the model
        SMOLLM2.replace(".a9", ".a0"),
        SMOLLM2.replace(".i1536", ".i999999999"),
        SMOLLM2.replace("c30", "c0"),
        SMOLLM2.replace("x64x64", "x0x64"),
        SMOLLM2.replace("p134515008", "p999999999999999"),
        SMOLLM2 + "w0",
        SMOLLM2 + ".c99999x99999x999999x999999",
        SMOLLM2 + ".c9999x9999x99999x99999",
    ],
)
def test_numbers_that_no_model_has_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the shape of a model"):
        parse_shape(text)


@pytest.mark.parametrize(
    "text",
    [
        "p8030261248.e1050673152.v128256.h4096.i14336.a32.t0.c32x8x128x128",
        "p15706484224.e419430400.v102400.h2048.i8448.a16.t0.c27x1x576x0",  # a latent cache
        "p405853388800.e4202692608.v128256.h16384.i53248.a128.t0.c126x8x128x128",
        "p2614341888.e589824000.v256000.h2304.i9216.a8.t1.c13x4x256x256.c13x4x256x256w4096",
    ],
)
def test_published_models_are_accepted(text: str) -> None:
    assert str(parse_shape(text)) == text
